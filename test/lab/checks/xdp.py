# SPDX-License-Identifier: Apache-2.0
"""`xdp` in zero-copy mode, on the two drivers of this VM that have it: virtio_net and igb."""
from world import End, Failure, Host, both, exchange, functions, interface, kPci, load, run


class World:
    def __init__(self) -> None:
        self.hosts: list[Host] = []

    def open(self) -> None:
        load("igb", "virtio_net")
        run("mkdir", "-p", "/sys/fs/bpf")

    def interfaces(self, driver: str) -> list[str]:
        if driver == "igb":
            return [interface(address) for address in functions("igb")]
        # The NICs with an interface among virtio's many devices.
        return [interface(address) for address in functions("virtio-pci") if any((kPci / "devices" / address).glob("virtio*/net"))]

    def pair(self, driver: str, java: bool = False) -> list[End]:
        network = 20 if driver == "igb" else 21
        ends: list[End] = []
        try:
            for i, name in enumerate(self.interfaces(driver)):
                host = Host(f"{driver.replace('_', '')}{i}")
                self.hosts.append(host)
                host.ipv6 = f"fd{network}::{i + 1}"
                host.take(name, f"10.{network}.0.{i + 1}/24", f"{host.ipv6}/64")
                address = f"10.{network}.0.{i + 1}"
                if java and i == 1:
                    ends.append(End(host, address, java=True))
                else:
                    ends.append(End(host, address, OUTRIGGER_BACKENDS="xdp", OUTRIGGER_XDP_MODE="zero-copy", OUTRIGGER_INTERFACE=name))
                    # Attaching a program restarts the link of some NICs.
                    host.carrier(name)
            if len(ends) != 2:
                raise Failure(f"{driver} has {len(ends)} interfaces, not two")
        except Failure:
            self.drop(ends)
            raise
        return ends

    def drop(self, ends: list[End]) -> None:
        for end in ends:
            end.close(quiet=True)
        # The interfaces fall back to the first namespace with their hosts.
        for host in self.hosts:
            host.close()
        self.hosts = []

    def close(self) -> None:
        self.drop([])


def zeroCopy(driver: str):
    def check(world: World) -> None:
        ends = world.pair(driver)
        try:
            both(ends[0], ends[1], 1000, 100)
            both(ends[0], ends[1], 300, "mix", family=6)
        finally:
            world.drop(ends)

    return check


def withJava(driver: str):
    def check(world: World) -> None:
        ends = world.pair(driver, java=True)
        try:
            both(ends[0], ends[1], 300, "mix")
            exchange(ends[1], ends[0], 200, "payload", f"[{ends[0].host.ipv6}]")
        finally:
            world.drop(ends)

    return check


def checks():
    return [
        ("xdp: zero-copy on virtio_net, both ways over IPv4 and IPv6", zeroCopy("virtio_net")),
        ("xdp: zero-copy on virtio_net with real Aeron at the far end, both ways", withJava("virtio_net")),
        ("xdp: zero-copy on igb, both ways over IPv4 and IPv6", zeroCopy("igb")),
        ("xdp: zero-copy on igb with real Aeron at the far end, both ways", withJava("igb")),
    ]
