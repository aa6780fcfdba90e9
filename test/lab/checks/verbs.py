# SPDX-License-Identifier: Apache-2.0
"""`verbs` on rdma_rxe over igb: two hosts with a device each, the DatagramIo suite between them, and two drivers."""
import os
import pathlib

from world import End, Failure, Host, both, functions, interface, kBuild, load, run, until


class World:
    def __init__(self) -> None:
        self.hosts: list[Host] = []

    def open(self) -> None:
        load("igb", "rdma_rxe", "ib_uverbs")
        links = [interface(address) for address in functions("igb")]
        if len(links) != 2:
            raise Failure(f"igb has {len(links)} interfaces, not two")
        for i, link in enumerate(links):
            host = Host(f"rdma{i}")
            self.hosts.append(host)
            host.ipv4 = f"10.40.0.{i + 1}"
            host.ipv6 = f"fd40::{i + 1}"
            # An MTU of 4096 for datagrams, besides the headers of Ethernet, IP, UDP and InfiniBand.
            run("ip", "link", "set", link, "mtu", "4400")
            host.take(link, f"{host.ipv4}/24", f"{host.ipv6}/64")
            host.run("rdma", "link", "add", f"rxe{i}", "type", "rxe", "netdev", link)
            gids = pathlib.Path(f"/sys/class/infiniband/rxe{i}/ports/1/gids")
            until(f"both addresses of rxe{i}", lambda: sum(not text.startswith(("0000:0000:0000:0000:0000:0000", "fe80")) for text in gidsIn(gids)) >= 2)
        for a, b in (self.hosts, self.hosts[::-1]):
            a.ping(b.ipv4)

    def packets(self) -> int:
        """That left the two devices by RDMA."""
        paths = (f"/sys/class/infiniband/rxe{i}/ports/1/hw_counters/sent_pkts" for i in range(2))
        return sum(int(pathlib.Path(path).read_text()) for path in paths)

    def close(self) -> None:
        for i, host in enumerate(self.hosts):
            run("rdma", "link", "delete", f"rxe{i}", ok=False)
            host.close()
        self.hosts = []


def gidsIn(folder: pathlib.Path) -> list[str]:
    """0000:0000:0000:0000:0000:ffff:0a28:0001 is one of IPv4; unused places are zeros."""
    texts = []
    for entry in folder.iterdir():
        try:
            texts.append(entry.read_text().strip())
        except OSError:
            continue
    return [text.replace("0000:0000:0000:0000:0000:ffff", "v4") for text in texts]


def suite(world: World) -> None:
    named = ";".join(f"{host.name},{host.ipv4},{host.ipv6}" for host in world.hosts)
    os.environ["OUTRIGGER_TEST_VERBS_HOSTS"] = named
    os.environ["OUTRIGGER_VERBS_LIBRARY"] = str(kBuild / "outrigger-verbs.so")
    before = world.packets()
    output = run(str(kBuild / "test_io"), "--gtest_filter=*DatagramIoConformance*/verbs", "--gtest_brief=1", ok=False)
    if "[  PASSED  ]" not in output or "FAILED" in output:
        raise Failure(output[-3000:])
    if "verbs names no two hosts" in output or world.packets() - before < 500:
        raise Failure(f"hardly anything went by RDMA: {output[-1000:]}")


def explained(world: World) -> None:
    environment = ["env", "OUTRIGGER_BACKENDS=verbs", f"OUTRIGGER_INTERFACE_ADDRESS={world.hosts[0].ipv4}"]
    output = world.hosts[0].run(*environment, str(kBuild / "outrigger-driver"), "--explain")
    for wanted in ("rxe0 port 1", "4096 bytes in a datagram", world.hosts[0].ipv6):
        if wanted not in output:
            raise Failure(f"explain does not say {wanted!r}: {output}")
    # The address of the other host has no GID here.
    environment[2] = f"OUTRIGGER_INTERFACE_ADDRESS={world.hosts[1].ipv4}"
    output = world.hosts[0].run(*environment, str(kBuild / "outrigger-driver"), "--explain", ok=False)
    if f"no RoCE v2 GID of address {world.hosts[1].ipv4}" not in output:
        raise Failure(f"explain does not say why: {output}")


def drivers(world: World) -> None:
    ends: list[End] = []
    try:
        for host in world.hosts:
            ends.append(End(host, host.ipv4, OUTRIGGER_BACKENDS="verbs", OUTRIGGER_INTERFACE_ADDRESS=host.ipv4, OUTRIGGER_UMEM_SIZE="8m"))
        before = world.packets()
        both(ends[0], ends[1], 1000, 600)
        both(ends[0], ends[1], 300, "mix", family=6)
        # Two messages share a datagram; control frames come on top.
        if (sent := world.packets() - before) < 800:
            raise Failure(f"only {sent} packets left by RDMA")
    finally:
        for end in ends:
            end.close()


def withKernelPeer(world: World) -> None:
    """A driver that has no RDMA is reached all the same."""
    ends: list[End] = []
    try:
        first, second = world.hosts
        ends.append(End(first, first.ipv4, OUTRIGGER_BACKENDS="verbs", OUTRIGGER_INTERFACE_ADDRESS=first.ipv4, OUTRIGGER_UMEM_SIZE="8m"))
        ends.append(End(second, second.ipv4, OUTRIGGER_BACKENDS="mmsg"))
        both(ends[0], ends[1], 500, 600)
    finally:
        for end in ends:
            end.close()


def checks():
    return [
        ("verbs: two drivers exchange messages by RDMA", drivers),
        ("verbs: explain lists the device, and why an address can't be had", explained),
        ("verbs: the DatagramIo suite between two rdma_rxe devices", suite),
        ("verbs: a driver without RDMA is reached through the kernel", withKernelPeer),
    ]
