# SPDX-License-Identifier: Apache-2.0
"""A publisher and a subscriber over gRPC, as any Python program would write them.

    client.py publish   --target unix:/run/outrigger.sock --topic T --count N --seed S [--batch B]
    client.py subscribe --target 127.0.0.1:7000 --topic T --count N
    client.py refused   --target ... --topic no-such-topic

One line of JSON for each event; the last one has the figures. The stubs are generated from proto/ into a folder on PYTHONPATH.
Messages, little-endian: sequence (8 bytes), CRC-32 of what follows (4), seed (4), words of a number that follows from seed and sequence.
The seed tells publishers of one topic apart.
"""

import argparse
import json
import queue
import struct
import sys
import zlib

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from outrigger.v1 import messaging_pb2 as messaging
from outrigger.v1 import messaging_pb2_grpc as service

WINDOW_BATCHES = 32
CREDIT_MESSAGES = 4096
CREDIT_BYTES = 4 << 20


def say(**fields):
    print(json.dumps(fields), flush=True)


def message(seed, sequence):
    mixed = (sequence * 2654435761 + seed) & 0xFFFFFFFF
    # One of 64 is longer than a datagram carries: it travels in fragments.
    length = mixed % 12000 if mixed % 64 == 0 else mixed % 600
    body = struct.pack("<I", seed) + struct.pack("<I", mixed) * (length // 4)
    return struct.pack("<QI", sequence, zlib.crc32(body)) + body


def publish(stub, args):
    requests = queue.Queue()
    answers = stub.Publish(iter(requests.get, None))
    requests.put(
        messaging.PublishRequest(
            open=messaging.PublishOpen(
                target=messaging.Target(topic=args.topic),
                back_pressure=messaging.BACK_PRESSURE_POLICY_WAIT,
                wait_timeout_ms=30000,
            )
        )
    )
    opened = next(answers).opened
    say(event="opened", session=opened.session_id, maxMessageBytes=opened.max_message_bytes)
    sent = accepted = answered = batches = 0
    while accepted < args.count:
        while sent < args.count and batches - answered < WINDOW_BATCHES:
            messages = [message(args.seed, i) for i in range(sent, min(sent + args.batch, args.count))]
            requests.put(messaging.PublishRequest(batch=messaging.PublishBatch(sequence=batches, messages=messages)))
            sent += len(messages)
            batches += 1
        answer = next(answers)
        if answer.WhichOneof("response") != "result":
            continue
        result = answer.result
        if result.sequence != answered or result.status != messaging.PUBLISH_STATUS_ACCEPTED:
            raise SystemExit(f"batch {answered}: {result}")
        answered += 1
        accepted += result.accepted
    requests.put(None)
    for answer in answers:
        if answer.WhichOneof("response") == "result":
            raise SystemExit(f"an answer too many: {answer}")
    say(event="done", accepted=accepted, batches=batches)


def subscribe(stub, args):
    requests = queue.Queue()
    requests.put(
        messaging.SubscribeRequest(
            open=messaging.SubscribeOpen(
                target=messaging.Target(topic=args.topic),
                slow_policy=messaging.SLOW_SUBSCRIBER_POLICY_BLOCK,
                initial_credit=messaging.Credit(messages=CREDIT_MESSAGES, bytes=CREDIT_BYTES),
            )
        )
    )
    answers = stub.Subscribe(iter(requests.get, None))
    received = out_of_order = corrupt = gaps = 0
    expected = {}
    owed_messages = owed_bytes = 0
    for answer in answers:
        kind = answer.WhichOneof("response")
        if kind == "opened":
            say(event="opened", stream=answer.opened.stream_id)
        elif kind == "event":
            event = answer.event.WhichOneof("event")
            gaps += event == "gap"
            say(event=event)
        elif kind == "batch":
            batch = answer.batch
            for data in batch.messages:
                sequence, crc, seed = struct.unpack_from("<QII", data)
                out_of_order += sequence != expected.get(seed, 0)
                corrupt += zlib.crc32(data[12:]) != crc
                expected[seed] = sequence + 1
                owed_bytes += len(data)
            received += len(batch.messages)
            owed_messages += len(batch.messages)
            if owed_messages > CREDIT_MESSAGES // 2 or owed_bytes > CREDIT_BYTES // 2:
                requests.put(messaging.SubscribeRequest(credit=messaging.Credit(messages=owed_messages, bytes=owed_bytes)))
                owed_messages = owed_bytes = 0
            if received >= args.count:
                break
    say(event="done", received=received, outOfOrder=out_of_order, corrupt=corrupt, gaps=gaps, publishers=len(expected))
    answers.cancel()
    requests.put(None)


def refused(stub, args):
    opening = messaging.PublishRequest(open=messaging.PublishOpen(target=messaging.Target(topic=args.topic)))
    try:
        for _ in stub.Publish(iter([opening])):
            pass
        raise SystemExit("was accepted")
    except grpc.RpcError as error:
        status = rpc_status.from_call(error)
        info = error_details_pb2.ErrorInfo()
        for detail in status.details:
            if detail.Is(info.DESCRIPTOR):
                detail.Unpack(info)
        say(
            event="refused",
            code=error.code().name,
            message=error.details(),
            reason=info.reason,
            domain=info.domain,
            metadata=dict(info.metadata),
        )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["publish", "subscribe", "refused"])
    parser.add_argument("--target", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--batch", type=int, default=50)
    args = parser.parse_args()
    with grpc.insecure_channel(args.target) as channel:
        {"publish": publish, "subscribe": subscribe, "refused": refused}[args.command](service.MessagingServiceStub(channel), args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
