# SPDX-License-Identifier: Apache-2.0
"""Publishes quotes until it is told to stop, then the closing quote of every symbol, and says how many were accepted."""

import json
import os
import queue
import random
import signal
import socket
import sys
import threading

from outrigger.v1 import messaging_pb2 as messaging
from quotes import connect, say, topic

TICKS_PER_SECOND = 100
SYMBOLS = 200
# How long the sidecar keeps trying before it says that it could not; then we decide anew.
WAIT_MS = 1000


class Publisher:
    def __init__(self, stub, stop):
        self.name = socket.gethostname()
        self.stop = stop
        self.prices = [50 + 100 * random.random() for _ in range(SYMBOLS)]
        self.number = self.sequence = self.accepted = 0
        # What is put here goes out; None half-closes.
        self.requests = queue.SimpleQueue()
        self.answers = stub.Publish(iter(self.requests.get, None))
        self.requests.put(
            messaging.PublishRequest(
                open=messaging.PublishOpen(
                    target=topic(),
                    back_pressure=messaging.BACK_PRESSURE_POLICY_WAIT,
                    wait_timeout_ms=WAIT_MS,
                    # A session of its own, so that subscribers see when this publisher comes and goes.
                    exclusive=True,
                )
            )
        )
        opened = next(self.answers).opened
        say("open", publisher=self.name, maxMessageBytes=opened.max_message_bytes)

    def quote(self, symbol, closing=False):
        self.prices[symbol] += random.random() - 0.5
        quote = {"publisher": self.name, "number": self.number, "symbol": f"S{symbol:03}", "price": self.prices[symbol]}
        if closing:
            quote["closing"] = True
        self.number += 1
        return json.dumps(quote).encode()

    def publish(self, messages):
        """Offers a batch until all of it is accepted: the result says how many leading messages were, and why the rest was not. When the app is to
        stop and nobody listens, the rest has no one to go to."""
        while messages:
            self.sequence += 1
            self.requests.put(messaging.PublishRequest(batch=messaging.PublishBatch(sequence=self.sequence, messages=messages)))
            # The answer to the one batch that is under way; events come between.
            result = next(answer.result for answer in self.answers if answer.WhichOneof("response") == "result")
            self.accepted += result.accepted
            messages = messages[result.accepted :]
            if result.status == messaging.PUBLISH_STATUS_NOT_CONNECTED:
                if self.stop.is_set():
                    return
            elif result.status not in (messaging.PUBLISH_STATUS_ACCEPTED, messaging.PUBLISH_STATUS_BACK_PRESSURED):
                raise RuntimeError(f"batch {self.sequence}: {messaging.PublishStatus.Name(result.status)}")

    def close(self):
        """Half-closes: the sidecar sends what it has, then ends the stream."""
        self.requests.put(None)
        for _ in self.answers:
            pass


def main():
    rate = int(os.environ.get("RATE", "1000"))
    if rate < TICKS_PER_SECOND:
        raise SystemExit(f"RATE={rate}: quotes a second, {TICKS_PER_SECOND} or more")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    channel, stub = connect()
    with channel:
        publisher = Publisher(stub, stop)
        while not stop.wait(1 / TICKS_PER_SECOND):
            publisher.publish([publisher.quote(random.randrange(SYMBOLS)) for _ in range(rate // TICKS_PER_SECOND)])
        # The sidecar ends after the apps of its pod and sends what it has until then, so there is time for last words.
        for symbol in range(SYMBOLS):
            publisher.publish([publisher.quote(symbol, closing=True)])
        publisher.close()
    say("done", publisher=publisher.name, accepted=publisher.accepted, closing=SYMBOLS)


# An error ends the app: the kubelet starts it again, and it opens a new session.
if __name__ == "__main__":
    sys.exit(main())
