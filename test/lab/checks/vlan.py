# SPDX-License-Identifier: Apache-2.0
"""`packet` and `xdp` on the kernel's interface of a VLAN over virtio_net, with ordinary sockets at the far end; and the stack's own tests of it,
which need a kernel with 802.1Q."""
from world import End, Failure, Host, both, explain, functions, interface, kBuild, kPci, load, run

kVlan = 42


class World:
    def __init__(self) -> None:
        self.hosts: list[Host] = []

    def open(self) -> None:
        load("virtio_net", "8021q", "veth")
        run("mkdir", "-p", "/sys/fs/bpf")
        names = [interface(each) for each in functions("virtio-pci") if any((kPci / "devices" / each).glob("virtio*/net"))]
        if len(names) != 2:
            raise Failure(f"virtio_net has the interfaces {names}, not two")
        for i, name in enumerate(names):
            host = Host(f"vlan{i}")
            self.hosts.append(host)
            host.take(name)
            host.parent, host.interface = name, f"{name}.{kVlan}"
            host.ip("link", "add", "link", name, "name", host.interface, "type", "vlan", "id", str(kVlan))
            host.address, host.ipv6 = f"10.42.0.{i + 1}", f"fd42::{i + 1}"
            host.configure(host.interface, f"{host.address}/24", f"{host.ipv6}/64")

    def close(self) -> None:
        for host in self.hosts:
            host.ip("link", "del", host.interface)
            host.close()
        self.hosts = []


def stack(_: World) -> None:
    output = run(str(kBuild / "test_stack"), "--gtest_filter=*OnVlan*", ok=False)
    if "[  PASSED  ] 5 tests" not in output or "SKIPPED" in output:
        raise Failure(output[-3000:])


def between(backend: str, *facts: str):
    """A driver on the VLAN's interface, and one on the kernel's sockets at the other end."""

    def check(world: World) -> None:
        near, far = world.hosts
        settings = {"OUTRIGGER_BACKENDS": backend, "OUTRIGGER_INTERFACE": near.interface}
        text = explain(near, **settings)
        for wanted in (f"interface: {near.interface}", *facts):
            if wanted not in text:
                raise Failure(f"explain does not say {wanted!r}: {text}")
        ends: list[End] = []
        try:
            ends.append(End(near, near.address, **settings))
            ends.append(End(far, far.address, OUTRIGGER_BACKENDS="mmsg"))
            both(*ends, 500, "mix")
            both(*ends, 200, "payload", family=6)
            # Small messages share frames.
            if (sent := ends[0].driver.counted("frames_sent")) < 400:
                raise Failure(f"only {sent} frames left by the backend {backend}")
        finally:
            for end in ends:
                end.close()

    return check


def checks():
    return [
        ("vlan: the stack's tests on VLAN interfaces over veth", stack),
        ("vlan: packet on a VLAN's interface, with sockets at the far end", between("packet", "mode: V2 ring")),
        ("vlan: xdp on a VLAN's interface, with sockets at the far end", between("xdp", "mode: generic")),
    ]
