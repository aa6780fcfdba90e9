# SPDX-License-Identifier: Apache-2.0
"""`dpdk` on several queues of one NIC: its physical function under vfio-pci, and a host of the kernel's at the other end of the cable."""
import json
import os

from world import End, Failure, Host, both, exchange, functions, interface, kBuild, kHugepages, kPci, load, number, run, until, write

kQueues = 4
# A driver's buffers and DPDK's own; the program of the first check needs no more.
kHugepageCount = 48
kAnswersSpread = "answers spread over the queues by source ports (RSS)"


class World:
    def __init__(self) -> None:
        self.device = ""
        self.far: Host | None = None

    def open(self) -> None:
        load("igb", "vfio_iommu_type1", "vfio-pci", "tun")
        physical = functions("igb")
        if len(physical) != 2:
            raise Failure(f"igb is bound to {physical}, not to two functions")
        self.link = interface(physical[1])
        write(f"{kHugepages}/nr_hugepages", str(kHugepageCount))
        self.device = physical[0]
        bind(self.device, "vfio-pci")

    def close(self) -> None:
        if self.far is not None:
            self.far.close()
        write(f"{kHugepages}/nr_hugepages", "0")
        if self.device:
            bind(self.device, "igb")


def bind(address: str, driver: str) -> None:
    device = kPci / "devices" / address
    write(device / "driver_override", driver)
    write(device / "driver/unbind", address)
    write(kPci / "drivers_probe", address)
    until(f"{driver} has {address}", lambda: address in functions(driver), 20)


def hash(world: World) -> None:
    os.environ["OUTRIGGER_TEST_RSS"] = f"{world.device},{world.link},{kQueues}"
    output = run(str(kBuild / "test_dpdk"), "--gtest_filter=DpdkRss.*", "--gtest_brief=1", ok=False)
    if "[  PASSED  ] 3 tests" not in output or "SKIPPED" in output:
        raise Failure(output[-3000:])
    # Its namespace is gone: the interface comes back.
    until("the far interface is back", lambda: world.link in run("ip", "-br", "link"))


def drivers(world: World) -> None:
    """Many publications, and so many ports; their answers come on all queues and are all heard."""
    world.far = Host("far")
    world.far.take(world.link, "10.9.7.2/24", "fd09:7::2/64")
    near = Host("near")
    ends: list[End] = []
    try:
        ends.append(
            End(
                near,
                "10.9.7.1",
                OUTRIGGER_BACKENDS="dpdk",
                OUTRIGGER_DPDK_DEVICE=world.device,
                OUTRIGGER_DPDK_ADDRESSES="10.9.7.1/24,fd09:7::1/64",
                OUTRIGGER_QUEUES=",".join(str(queue) for queue in range(kQueues)),
            )
        )
        facts = json.loads((ends[0].driver.directory / "backend.json").read_text())["facts"]
        if facts["queues"] != str(kQueues) or kAnswersSpread not in facts["offloads"]:
            raise Failure(f"the driver says of itself {facts}")
        # The emulated device loses trains over IPv6 (docs/backends.md).
        ends.append(End(world.far, "10.9.7.2", OUTRIGGER_BACKENDS="mmsg", OUTRIGGER_UDP_SEGMENT="off"))
        both(*ends, 500, "mix")
        for _ in range(kQueues):
            exchange(ends[0], ends[1], 100, "payload")
        exchange(ends[0], ends[1], 200, "payload", "[fd09:7::2]")
        exchange(ends[1], ends[0], 200, "payload", "[fd09:7::1]")
    finally:
        for end in ends:
            end.close(quiet=True)
        near.close()
    if number(f"{kHugepages}/free_hugepages") != number(f"{kHugepages}/nr_hugepages"):
        raise Failure("hugepages are missing after the driver has ended")


def checks():
    return [
        ("queues: dpdk knows the queue that a device with several picks by its hash, over IPv4 and IPv6", hash),
        ("queues: dpdk on four queues of a physical function under vfio-pci, both ways, with answers spread over them", drivers),
    ]
