# SPDX-License-Identifier: Apache-2.0
"""`uring` on NICs whose device reads what is sent from where it lies: sends without a copy, which a veth pair always makes after all."""
import xdp
from world import End, Failure, both

World = xdp.World
# Long enough that its datagrams leave as a train of more than 16 KiB.
kLong = 30000


def counted(end: End) -> dict[str, int]:
    return {name: end.driver.counted(f"zero_copy_{name}") for name in ("sends", "copied", "refused", "late")}


def uncopied(end: End) -> None:
    found = counted(end)
    print(f"# without a copy: {found}", flush=True)
    if found["sends"] < 50 or found["copied"] > 0 or found["refused"] > 0:
        raise Failure(f"the messages were not left to the device: {found}")


def carries(a: End, b: End) -> None:
    # Many times around the log, whose memory is written over as soon as it was read. Over IPv4 alone: the emulated igb does not segment UDP over
    # IPv6. Trains stay away with OUTRIGGER_URING_ZERO_COPY=off too, and those of `mmsg`; without OUTRIGGER_UDP_SEGMENT all messages arrive.
    both(a, b, 200, kLong)
    for end in (a, b):
        uncopied(end)


def isOff(a: End, b: End) -> None:
    both(a, b, 50, kLong)
    if any(counted(a).values()):
        raise Failure(f"it was switched off, and yet: {counted(a)}")


def checks():
    settings = {"OUTRIGGER_BACKENDS": "uring"}
    off = {**settings, "OUTRIGGER_URING_ZERO_COPY": "off"}
    return [
        ("uring: igb reads the log itself, both ways", xdp.on("igb", carries, **settings)),
        ("uring: nothing goes without a copy where it is off", xdp.on("igb", isOff, **off)),
    ]
