# SPDX-License-Identifier: Apache-2.0
"""`dpdk` on virtual functions of an SR-IOV NIC, under vfio-pci with the IOMMU and hugepages; a third host has a function that stays the
kernel's, for real Aeron, and for a VLAN's interface while a driver tags its frames itself."""
import json
import os

from world import End, Failure, Host, both, exchange, explain, functions, interface, kHugepages, kPatienceSeconds
from world import kPci, load, number, run, until, write

# Two drivers of 16 MiB of buffers and 32 MiB of DPDK's own, and some to spare.
kHugepageCount = 72
kVlan = 42


class World:
    def __init__(self) -> None:
        self.hosts: list[Host] = []
        self.ends: list[End] = []
        self.trouble: Failure | None = None
        self.kernel: Host | None = None

    def open(self) -> None:
        load("igb")
        self.physical = functions("igb")
        if len(self.physical) != 2:
            raise Failure(f"igb is bound to {self.physical}, not to two functions")
        self.names = [interface(address) for address in self.physical]
        self.virtual: list[list[str]] = []
        for i, (address, name) in enumerate(zip(self.physical, self.names)):
            run("ip", "link", "set", name, "up")
            write(kPci / "devices" / address / "sriov_numvfs", "2")
            for vf in range(2):
                run("ip", "link", "set", name, "vf", str(vf), "mac", f"02:1{i + 1}:00:00:00:0{vf}")
            self.virtual.append([os.path.basename(os.readlink(kPci / "devices" / address / f"virtfn{vf}")) for vf in range(2)])
        write(f"{kHugepages}/nr_hugepages", str(kHugepageCount))
        load("vfio_iommu_type1", "vfio-pci", "tun")

    def bind(self, address: str, driver: str) -> None:
        write(kPci / "devices" / address / "driver_override", driver)
        write(kPci / "drivers_probe", address)

    def host(self, name: str) -> Host:
        host = Host(name)
        self.hosts.append(host)
        return host

    def kernelHost(self) -> Host:
        """The third host, with a function of the kernel's; made once."""
        if self.kernel is None:
            load("igbvf")
            address = self.virtual[1][1]
            # The module takes the functions that have no driver; under vfio-pci the others stay.
            if address not in functions("igbvf"):
                self.bind(address, "igbvf")
            host = self.host("kernel")
            host.link = interface(address)
            host.take(host.link, "10.9.0.3/24", "fd09::3/64")
            host.ipv6 = "fd09::3"
            self.kernel = host
        return self.kernel

    def pair(self) -> tuple[End, End]:
        """The two drivers on functions under vfio-pci; started once, and when that failed, with its reason ever after."""
        if self.trouble is not None:
            raise self.trouble
        try:
            for i in range(len(self.ends), 2):
                host = self.host(f"dpdk{i}")
                host.ipv6 = f"fd09::{i + 1}"
                self.ends.append(
                    End(
                        host,
                        f"10.9.0.{i + 1}",
                        OUTRIGGER_BACKENDS="dpdk",
                        OUTRIGGER_DPDK_DEVICE=self.virtual[i][0],
                        OUTRIGGER_DPDK_ADDRESSES=f"10.9.0.{i + 1}/24,fd09::{i + 1}/64",
                    )
                )
        except Failure as failure:
            self.trouble = failure
            raise
        return self.ends[0], self.ends[1]

    def close(self) -> None:
        for end in self.ends:
            end.close(quiet=True)
        for host in self.hosts:
            host.close()
        write(f"{kHugepages}/nr_hugepages", "0")
        for address in self.physical:
            write(kPci / "devices" / address / "sriov_numvfs", "0")


def explained(device: str, **settings: str) -> str:
    return explain(OUTRIGGER_BACKENDS="dpdk", OUTRIGGER_DPDK_DEVICE=device, **settings)


def ownGroups(world: World) -> None:
    groups = [os.path.basename(os.readlink(kPci / "devices" / each / "iommu_group")) for pair in world.virtual for each in pair]
    if len(set(groups)) != 4:
        raise Failure(f"the four functions are in groups {groups}")


def refusesUnbound(world: World) -> None:
    text = explained(world.virtual[0][0])
    if "is bound to no driver" not in text or "driver_override" not in text:
        raise Failure(f"explain does not say that the function is bound to no driver: {text}")


def binds(world: World) -> None:
    for pair in world.virtual:
        world.bind(pair[0], "vfio-pci")
        until("vfio-pci has the function", lambda: pair[0] in functions("vfio-pci"), 10)
    device = world.virtual[0][0]
    text = explained(device, OUTRIGGER_DPDK_ADDRESSES="10.9.0.1/24,fd09::1/64").splitlines()[0]
    if "available" not in text:
        raise Failure(f"explain does not call dpdk available: {text}")
    # A function that the kernel gave away has no address there that the driver could take over.
    text = explained(device)
    if "impossible" not in text or "OUTRIGGER_DPDK_ADDRESSES" not in text:
        raise Failure(f"explain does not ask for the function's addresses: {text}")


def small(world: World) -> None:
    both(*world.pair(), 2000, 100)


def full(world: World) -> None:
    both(*world.pair(), 500, "payload", family=6)


def mixed(world: World) -> None:
    both(*world.pair(), 300, "mix")


def onHugepages(world: World) -> None:
    world.pair()
    if number(f"{kHugepages}/free_hugepages") >= number(f"{kHugepages}/nr_hugepages"):
        raise Failure("all hugepages are free while two drivers run")


def exceptionPath(world: World) -> None:
    a, b = world.pair()
    a.host.ping("10.9.0.2")
    b.host.ping("10.9.0.1")
    neighbours = a.host.ip("neighbour", "show", "dev", "outrigger0")
    if "02:12:00:00:00:00" not in neighbours:
        raise Failure(f"the kernel did not learn the far function's MAC address: {neighbours}")


def withJava(world: World) -> None:
    a, _ = world.pair()
    java = End(world.kernelHost(), "10.9.0.3", java=True)
    try:
        both(a, java, 500, "mix")
        exchange(java, a, 200, "payload", "[fd09::1]")
    finally:
        java.close(quiet=True)


def givesBack(world: World) -> None:
    for end in world.pair():
        end.close()
    world.ends = []
    total, free = (number(f"{kHugepages}/{name}_hugepages") for name in ("nr", "free"))
    if free != total:
        raise Failure(f"{free} of {total} hugepages are free after the drivers have ended")
    for host in world.hosts[:2]:
        if "outrigger0" in host.ip("link"):
            raise Failure("the exception interface is still there")


def tagged(world: World) -> None:
    """A driver that tags its frames, and the kernel's interface of that VLAN at the far end."""
    far, near = world.kernelHost(), world.host("tagged")
    for vlan in (kVlan, kVlan + 1):
        far.ip("link", "add", "link", far.link, "name", f"{far.link}.{vlan}", "type", "vlan", "id", str(vlan))
        far.configure(f"{far.link}.{vlan}")
    far.configure(f"{far.link}.{kVlan}", "10.9.42.2/24", "fd09:42::2/64")
    ends: list[End] = []
    try:
        ends.append(
            End(
                near,
                "10.9.42.1",
                OUTRIGGER_BACKENDS="dpdk",
                OUTRIGGER_VLAN=str(kVlan),
                OUTRIGGER_DPDK_DEVICE=world.virtual[0][0],
                OUTRIGGER_DPDK_ADDRESSES="10.9.42.1/24,fd09:42::1/64",
            )
        )
        driver = ends[0].driver
        facts = json.loads((driver.directory / "backend.json").read_text())["facts"]
        # The physical function lets in no VLAN that the function did not ask for.
        if facts.get("vlan") != str(kVlan) or "VLAN filter" not in facts["offloads"]:
            raise Failure(f"the driver says of itself {facts}")
        ends.append(End(far, "10.9.42.2", OUTRIGGER_BACKENDS="mmsg"))
        both(*ends, 500, "mix")
        for (sender, receiver), address in ((ends, "fd09:42::2"), (ends[::-1], "fd09:42::1")):
            exchange(sender, receiver, 200, "payload", f"[{address}]")
        # Small messages share frames.
        if (sent := driver.counted("frames_sent")) < 400:
            raise Failure(f"only {sent} frames left by the driver's stack")
        hearsOnlyItsVlan(near, far, ends[0])
    finally:
        for end in ends:
            end.close(quiet=True)


def hearsOnlyItsVlan(near: Host, far: Host, end: End) -> None:
    """Datagrams to an address of the VLAN: untagged, with another tag and with its own, in this order."""
    counter, count = "device_other_vlan_frames", 20
    mac = json.loads(near.ip("-j", "link", "show", "outrigger0"))[0]["address"]
    devices = (far.link, f"{far.link}.{kVlan + 1}", f"{far.link}.{kVlan}")
    before = end.driver.counted(counter)
    with near.udp() as listener:
        listener.settimeout(kPatienceSeconds)
        listener.bind((end.address, 0))
        for device in devices:
            far.ip("neighbour", "replace", end.address, "lladdr", mac, "dev", device)
            with far.udp(device) as sender:
                for _ in range(count):
                    sender.sendto(device.encode(), listener.getsockname())
        heard = [listener.recv(100).decode() for _ in range(count)]
    if heard != [devices[2]] * count:
        raise Failure(f"it hears what was sent from {sorted(set(heard))}")
    # The physical function drops those with the other tag, whose VLAN this one did not ask for.
    until("the untagged frames are counted", lambda: end.driver.counted(counter) - before >= count)
    print(f"# {end.driver.counted(counter) - before} frames of the {2 * count} without its tag were counted", flush=True)


def checks():
    return [
        ("dpdk: SR-IOV functions have IOMMU groups of their own", ownGroups),
        ("dpdk: explain names a function that is not bound to vfio-pci, and the commands", refusesUnbound),
        ("dpdk: explain calls a function under vfio-pci available", binds),
        ("dpdk: small messages from function to function, both ways over IPv4", small),
        ("dpdk: full datagrams from function to function, both ways over IPv6", full),
        ("dpdk: fragmented messages from function to function, both ways", mixed),
        ("dpdk: buffers lie on hugepages", onHugepages),
        ("dpdk: the exception interface answers ARP and echo for the function", exceptionPath),
        ("dpdk: real Aeron on a function of the kernel's, both ways, over IPv4 and IPv6", withJava),
        ("dpdk: hugepages and exception interface are gone with the drivers", givesBack),
        ("dpdk: a function under vfio-pci on a VLAN, with sockets on the kernel's interface of it at the far end", tagged),
    ]
