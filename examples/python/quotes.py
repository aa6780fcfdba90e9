# SPDX-License-Identifier: Apache-2.0
"""What publisher and subscriber share: the way to the sidecar, the topic, what they say."""

import json
import os

import grpc
from outrigger.v1 import messaging_pb2 as messaging
from outrigger.v1 import messaging_pb2_grpc as service


def connect():
    """The sidecar in the same pod; injection sets OUTRIGGER_ADDRESS. Without TLS: the socket never leaves the pod."""
    address = os.environ.get("OUTRIGGER_ADDRESS")
    if not address:
        raise SystemExit('OUTRIGGER_ADDRESS is not set: has the pod the label outrigger.dev/inject: "true"?')
    channel = grpc.insecure_channel(address)
    return channel, service.MessagingServiceStub(channel)


def topic():
    return messaging.Target(topic=os.environ.get("TOPIC", "quotes"))


def say(event, **figures):
    print(json.dumps({"event": event, **figures}), flush=True)
