# SPDX-License-Identifier: Apache-2.0
"""Counts the quotes of every publisher and says what it has, every thousand quotes and when a publisher comes or goes, until it is told to stop."""

import json
import queue
import signal
import sys
import threading

import grpc
from outrigger.v1 import messaging_pb2 as messaging
from quotes import connect, say, topic

# What may be on its way to us. Half of it is granted again when we have taken as much.
CREDIT_MESSAGES = 4096
CREDIT_BYTES = 4 << 20
REPORT_EVERY = 1000


class Session:
    """One publisher as long as it stays: what came of its quotes."""

    def __init__(self):
        self.publisher = ""
        self.first = self.next = self.messages = self.closing = 0
        # Numbers that did not come, or came twice or late: none, without a gap event.
        self.missing = self.out_of_order = 0

    def take(self, quote):
        number = quote["number"]
        if self.messages == 0:
            self.publisher = quote["publisher"]
            self.first = self.next = number
        self.missing += max(number - self.next, 0)
        self.out_of_order += number < self.next
        self.next = max(self.next, number + 1)
        self.messages += 1
        self.closing += quote.get("closing", False)

    def say(self, event, **more):
        say(
            event,
            publisher=self.publisher,
            first=self.first,
            messages=self.messages,
            closing=self.closing,
            missing=self.missing,
            outOfOrder=self.out_of_order,
            **more,
        )


class Subscriber:
    def __init__(self, stub):
        self.sessions = {}
        self.owed = messaging.Credit()
        self.requests = queue.SimpleQueue()
        self.requests.put(
            messaging.SubscribeRequest(
                open=messaging.SubscribeOpen(
                    target=topic(),
                    # Every quote counts: the publisher waits for us.
                    slow_policy=messaging.SLOW_SUBSCRIBER_POLICY_BLOCK,
                    initial_credit=messaging.Credit(messages=CREDIT_MESSAGES, bytes=CREDIT_BYTES),
                )
            )
        )
        self.answers = stub.Subscribe(iter(self.requests.get, None))

    def of(self, session_id):
        return self.sessions.setdefault(session_id, Session())

    def batch(self, batch):
        session = self.of(batch.session_id)
        for message in batch.messages:
            session.take(json.loads(message))
            if session.messages % REPORT_EVERY == 0:
                session.say("received")
            self.owed.messages += 1
            self.owed.bytes += len(message)
        if self.owed.messages >= CREDIT_MESSAGES // 2 or self.owed.bytes >= CREDIT_BYTES // 2:
            self.requests.put(messaging.SubscribeRequest(credit=self.owed))
            self.owed = messaging.Credit()

    def event(self, event):
        kind = event.WhichOneof("event")
        if kind == "image_available":
            say("publisher came", source=event.image_available.source)
        elif kind == "image_unavailable":
            gone = event.image_unavailable
            self.of(gone.session_id).say("publisher gone", reason=messaging.ImageEnd.Name(gone.reason))
            del self.sessions[gone.session_id]
        elif kind == "gap":  # nothing is missing without one
            self.of(event.gap.session_id).say("gap", reason=messaging.GapReason.Name(event.gap.reason))

    def run(self):
        for answer in self.answers:
            kind = answer.WhichOneof("response")
            if kind == "opened":
                say("open", stream=answer.opened.stream_id)
            elif kind == "batch":
                self.batch(answer.batch)
            else:
                self.event(answer.event)


def main():
    stop = threading.Event()
    channel, stub = connect()
    with channel:
        subscriber = Subscriber(stub)

        def on_signal(*_):
            stop.set()
            subscriber.answers.cancel()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, on_signal)
        try:
            subscriber.run()
        except grpc.RpcError:
            if not stop.is_set():
                raise
        subscriber.requests.put(None)
    for session in subscriber.sessions.values():
        session.say("done")


if __name__ == "__main__":
    sys.exit(main())
