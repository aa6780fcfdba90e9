# SPDX-License-Identifier: Apache-2.0
"""Loss, delay and reordering by the kernel's network emulator, under `mmsg` and `xdp`. It stands at the ports of a bridge between the hosts:
AF_XDP goes past the queueing discipline of its own interface."""
import re

from world import End, Failure, Host, both, load


class World:
    def __init__(self) -> None:
        self.hosts: list[Host] = []

    def open(self) -> None:
        load("veth", "bridge", "sch_netem")
        self.middle = Host("middle")
        self.middle.ip("link", "add", "switch", "type", "bridge")
        self.middle.ip("link", "set", "switch", "up")
        for i in range(2):
            host = Host(f"far{i}")
            self.hosts.append(host)
            host.ipv6 = f"fd30::{i + 1}"
            self.middle.ip("link", "add", f"port{i}", "type", "veth", "peer", "name", "eth0", "netns", host.name)
            self.middle.ip("link", "set", f"port{i}", "master", "switch", "up")
            host.configure("eth0", f"10.30.0.{i + 1}/24", f"{host.ipv6}/64")

    def impair(self, *how: str) -> None:
        for i in range(2):
            self.middle.run("tc", "qdisc", "replace", "dev", f"port{i}", "root", "netem", "limit", "20000", *how)

    def clear(self) -> None:
        for i in range(2):
            self.middle.run("tc", "qdisc", "del", "dev", f"port{i}", "root", ok=False)

    def close(self) -> None:
        for host in [*self.hosts, self.middle]:
            host.close()


def dropped(world: World) -> int:
    """Frames that the emulator threw away."""
    text = "".join(world.middle.run("tc", "-s", "qdisc", "show", "dev", f"port{i}") for i in range(2))
    return sum(int(count) for count in re.findall(r"\(dropped (\d+)", text))


def under(backend: str, lossy: bool, *how: str):
    def check(world: World) -> None:
        environment = {"OUTRIGGER_BACKENDS": backend}
        if backend == "xdp":
            environment |= {"OUTRIGGER_INTERFACE": "eth0", "OUTRIGGER_XDP_MODE": "native"}
        ends: list[End] = []
        try:
            for i, host in enumerate(world.hosts):
                ends.append(End(host, f"10.30.0.{i + 1}", **environment))
            world.impair(*how)
            both(ends[0], ends[1], 1500, 600)
            both(ends[0], ends[1], 300, "mix", family=6)
            if lossy and dropped(world) == 0:
                raise Failure("the emulator lost nothing, so nothing was proven")
        finally:
            world.clear()
            for end in ends:
                end.close(quiet=True)

    return check


def checks():
    return [
        (f"netem: {what} under {backend}: every message arrives once and in order", under(backend, lossy, *how))
        for backend in ("mmsg", "xdp")
        for what, lossy, how in (
            ("2 % loss", True, ("loss", "2%")),
            ("a delay of 20 ± 10 ms, which reorders", False, ("delay", "20ms", "10ms")),
            ("reordering, duplication and loss at once", True, ("delay", "5ms", "reorder", "75%", "50%", "duplicate", "1%", "loss", "1%")),
        )
    ]
