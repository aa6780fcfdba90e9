# SPDX-License-Identifier: Apache-2.0
"""`xdp` on the two drivers of this VM that have zero-copy, virtio_net and igb: what is carried, what it runs with, and what happens when a ring
runs dry or the link goes down."""
import json
import re
import subprocess

from world import End, Failure, Host, Stream, both, exchange, explain, functions, interface, kBuild, kHugepages, kPatienceSeconds
from world import kPci, load, number, run, until, write

# A UMEM of 16 MiB each, and some to spare.
kHugepageCount = 20
# A fill ring of 64 chunks.
kSmallUmem = "512k"
# What the kernel does by itself while no thread polls (docs/backends.md): without these busy polling stays off.
kDeferred = {"napi_defer_hard_irqs": "2", "gro_flush_timeout": "200000"}


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

    def place(self, driver: str, settings: dict[str, str] | None = None) -> list[tuple[Host, str]]:
        """The two interfaces of a driver, each on a host of its own, with addresses and with `settings` of /sys/class/net."""
        network = 20 if driver == "igb" else 21
        names = self.interfaces(driver)
        if len(names) != 2:
            raise Failure(f"{driver} has the interfaces {names}, not two")
        placed = []
        for i, name in enumerate(names):
            host = Host(f"{driver.replace('_', '')}{i}")
            self.hosts.append(host)
            host.ipv6 = f"fd{network}::{i + 1}"
            host.address = f"10.{network}.0.{i + 1}"
            host.take(name, f"{host.address}/24", f"{host.ipv6}/64")
            for setting, value in (settings or {}).items():
                host.run("sh", "-c", f"echo {value} > /sys/class/net/{name}/{setting}")
            placed.append((host, name))
        return placed

    def pair(self, driver: str, java: bool = False, settings: dict[str, str] | None = None, **environment: str) -> list[End]:
        ends: list[End] = []
        variables = {"OUTRIGGER_BACKENDS": "xdp", "OUTRIGGER_XDP_MODE": "zero-copy", **environment}
        try:
            for i, (host, name) in enumerate(self.place(driver, settings)):
                if java and i == 1:
                    ends.append(End(host, host.address, java=True))
                else:
                    ends.append(End(host, host.address, OUTRIGGER_INTERFACE=name, **variables))
                    # Attaching a program restarts the link of some NICs.
                    host.carrier(name)
                host.interface = name
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


def on(driver: str, body, java: bool = False, settings: dict[str, str] | None = None, **environment: str):
    """A check: `body` with two drivers on the two NICs of `driver`."""

    def check(world: World) -> None:
        ends = world.pair(driver, java, settings, **environment)
        try:
            body(*ends)
        finally:
            world.drop(ends)

    return check


def carries(a: End, b: End) -> None:
    both(a, b, 1000, 100)
    both(a, b, 300, "mix", family=6)


def withJava(a: End, java: End) -> None:
    both(a, java, 300, "mix")
    exchange(java, a, 200, "payload", f"[{a.host.ipv6}]")


def explains(world: World) -> None:
    """By which mode, and who fills checksums in. No driver of Linux 7.3 here takes transmit metadata with zero-copy; virtio's device on a hub
    has no checksums at all."""
    expected = {
        ("igb", "auto"): ["mode: zero-copy", "transmit checksum: driver igb takes no transmit metadata with zero-copy"],
        ("igb", "native"): ["mode: native copy", "transmit checksum: by the device"],
        ("virtio_net", "auto"): ["mode: zero-copy", "transmit checksum: driver virtio_net takes no transmit metadata with zero-copy"],
        ("virtio_net", "native"): ["mode: native copy", "transmit checksum: in software"],
    }
    try:
        for driver in ("igb", "virtio_net"):
            host, name = world.place(driver)[0]
            for mode in ("auto", "native"):
                text = explain(host, OUTRIGGER_BACKENDS="xdp", OUTRIGGER_INTERFACE=name, OUTRIGGER_XDP_MODE=mode)
                missing = [fact for fact in expected[driver, mode] if fact not in text]
                if missing:
                    raise Failure(f"of {driver} in mode {mode} explain does not say {missing}: {text}")
    finally:
        world.drop([])


def onHugepages(world: World) -> None:
    write(kHugepages / "nr_hugepages", str(kHugepageCount))
    try:
        ends = world.pair("igb")
        try:
            taken = number(kHugepages / "nr_hugepages") - number(kHugepages / "free_hugepages")
            # 16 MiB each.
            if taken != 16 or any("hugepages" in end.driver.ready["backendReasons"] for end in ends):
                raise Failure(f"two drivers took {taken} hugepages; they say {[end.driver.ready['backendReasons'] for end in ends]}")
            carries(*ends)
        finally:
            world.drop(ends)
        free = number(kHugepages / "free_hugepages")
        if free != kHugepageCount:
            raise Failure(f"{free} of {kHugepageCount} hugepages are free after the drivers have ended")
    finally:
        write(kHugepages / "nr_hugepages", "0")


def queues(a: End, b: End) -> None:
    """The device's table of queues is turned over and over while messages are on their way."""

    def frames() -> list[int]:
        text = b.host.run("ethtool", "-S", b.host.interface)
        return [int(re.search(rf"rx_queue_{i}_packets: (\d+)", text).group(1)) for i in range(2)]

    before = frames()
    stream = Stream(a, b)
    for turn in range(8):
        stream.send(150, 1200)
        b.host.run("ethtool", "-X", b.host.interface, "weight", *(("0", "1") if turn % 2 else ("1", "0")))
        stream.arrived(stream.count)
    stream.finish()
    got = [now - then for now, then in zip(frames(), before)]
    print(f"# frames of each queue: {got}", flush=True)
    if min(got) < 100:
        raise Failure(f"the two queues got {got} frames, so nothing was proven")


def busyPolls(a: End, b: End) -> None:
    """The drivers have it on, and do not wait for interrupts, which the device keeps to itself meanwhile."""
    for end in (a, b):
        note = json.loads((end.driver.directory / "backend.json").read_text())
        if "preferred busy polling" not in note["facts"]["offloads"] or "busy polling" in note["reason"]:
            raise Failure(f"the driver says of itself {note}")
    both(a, b, 300, "mix")


def stalls(a: End, b: End) -> None:
    """The receiving driver stands still while as much as its window takes comes in: its fill ring runs dry, and it counts that."""
    stream = Stream(a, b)
    stream.send(10, 100)
    stream.arrived(10)
    b.driver.stop()
    stream.send(3000, 1200)
    try:
        stream.stuck()
    finally:
        b.driver.go()
    stream.finish()
    empty, invalid = b.driver.counted("device_fill_ring_empty"), b.driver.counted("device_invalid_descriptors")
    if empty == 0 or invalid != 0:
        raise Failure(f"the fill ring was empty {empty} times, and {invalid} descriptors were invalid")


def linkGoesDown(a: End, b: End) -> None:
    stream = Stream(a, b)
    # Far more than a receiver's window, so that the sender still has some when it is stuck.
    stream.send(6000, 600)
    stream.arrived(200)
    b.host.ip("link", "set", b.host.interface, "down")
    stream.stuck()
    b.host.configure(b.host.interface)
    stream.finish()


def reflected(driver: str):
    def check(world: World) -> None:
        (near, _), (far, farName) = world.place(driver)
        probe = str(kBuild / "outrigger-probe")
        reflector = subprocess.Popen(
            far.command(probe, "reflect", "--interface", farName), stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
        )
        try:
            ready = json.loads(reflector.stdout.readline() or "{}")
            if ready.get("event") != "reflecting" or ready.get("mode") != "native":
                raise Failure(f"the reflector says {ready}")
            far.carrier(farName)
            said = json.loads(near.run(probe, "ping", "--host", far.address, "--via", "xdp", "--count", "100", "--timeout-ms", "30000"))
            if (said["via"], said["received"], said["lost"], said["duplicates"]) != ("xdp (zero-copy)", 100, 0, 0):
                raise Failure(f"ping says {said}")
        finally:
            reflector.terminate()
            reflector.wait(kPatienceSeconds)
            reflector.stdout.close()
            world.drop([])

    return check


def checks():
    return [
        ("xdp: explain says for igb and virtio_net which mode it would take and who fills in checksums", explains),
        ("xdp: zero-copy on virtio_net, both ways over IPv4 and IPv6", on("virtio_net", carries)),
        ("xdp: zero-copy on virtio_net with real Aeron at the far end, both ways", on("virtio_net", withJava, java=True)),
        ("xdp: zero-copy on igb, both ways over IPv4 and IPv6", on("igb", carries)),
        ("xdp: zero-copy on igb with real Aeron at the far end, both ways", on("igb", withJava, java=True)),
        ("xdp: zero-copy on both queues of igb, while its table of queues changes", on("igb", queues)),
        ("xdp: zero-copy on igb from hugepages, which come back", onHugepages),
        (
            "xdp: busy polling with zero-copy on igb is on and carries messages, both ways",
            on("igb", busyPolls, settings=kDeferred, OUTRIGGER_BUSY_POLL_US="20"),
        ),
        (
            "xdp: an empty fill ring of a halted receiver on virtio_net is counted and loses no message",
            on("virtio_net", stalls, OUTRIGGER_UMEM_SIZE=kSmallUmem),
        ),
        ("xdp: the receiver's link on igb goes down and up under a live stream", on("igb", linkGoesDown)),
        ("xdp: the receiver's link on virtio_net goes down and up under a live stream", on("virtio_net", linkGoesDown)),
        ("xdp: a native reflector on igb answers a ping with zero-copy", reflected("igb")),
        ("xdp: a native reflector on virtio_net answers a ping with zero-copy", reflected("virtio_net")),
    ]
