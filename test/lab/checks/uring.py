# SPDX-License-Identifier: Apache-2.0
"""`uring` on NICs whose device reads what is sent from where it lies: sends without a copy, which a veth pair always makes after all. And where
io_uring is refused: by the two sysctls of this kernel, and by seccomp filters."""
import contextlib
import errno
import pathlib
import sys

import xdp
from world import Driver, End, Failure, Host, both, explain, write

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


kSysctl = pathlib.Path("/proc/sys/kernel")
# As a sidecar: no capability, no group but its own.
kSidecar = ("setpriv", "--reuid=65532", "--regid=65532", "--clear-groups")
kSwitchedOff = "io_uring is switched off on this node: the sysctl kernel.io_uring_disabled is 2"
kLimited = "the sysctl kernel.io_uring_disabled is 1, and the process is neither in the group of kernel.io_uring_group nor has CAP_SYS_ADMIN"
kForbidden = "a seccomp filter forbids io_uring (EPERM)"
kHidden = "a seccomp filter hides io_uring (ENOSYS): the kernel itself has it"


@contextlib.contextmanager
def sysctls(disabled: int, group: int = -1):
    """kernel.io_uring_disabled and kernel.io_uring_group are these for a while."""
    wanted = {kSysctl / "io_uring_disabled": disabled, kSysctl / "io_uring_group": group}
    before = {path: path.read_text() for path in wanted}
    try:
        for path, value in wanted.items():
            write(path, str(value))
        yield
    finally:
        for path, value in before.items():
            write(path, value)


class Confined(Host):
    """A host whose programs run behind other programs."""

    def __init__(self, host: Host, *prefix: str) -> None:
        self.name = host.name
        self.prefix = prefix

    def command(self, *command: str) -> list[str]:
        return super().command(*self.prefix, *command)


def filtered(answer: int) -> tuple[str, ...]:
    """Under a filter that answers this errno to io_uring's calls, or lets them through."""
    return (sys.executable, "-B", str(pathlib.Path(__file__).with_name("filtered.py")), str(answer))


def explains(host: Host, cause: str = "", fix: str = "") -> None:
    """That io_uring can't be had for this cause, or without one, that it can. Where `mmsg` comes after it, that one would be taken."""
    text = explain(host, OUTRIGGER_BACKENDS="uring,mmsg")
    lines = iter(text.splitlines())
    row = next((line for line in lines if line.startswith("uring ")), "")
    told = [next(lines, "").strip() for _ in range(2)] if "impossible" in row else ["", ""]
    expected = ("impossible", f"io_uring: {cause}", f"fix: {fix}", "would use mmsg") if cause else ("available", "", "", "would use uring")
    if expected[0] not in row or not told[0].startswith(expected[1]) or not told[1].startswith(expected[2]) or expected[3] not in text:
        raise Failure(f"instead of {expected} explain says: {text}")


def refuses(host: Host, cause: str) -> None:
    """A driver that may use nothing else does not start, and says why."""
    try:
        driver = Driver(host, OUTRIGGER_BACKENDS="uring")
    except Failure as failure:
        if "no backend of OUTRIGGER_BACKENDS opens" not in str(failure) or cause not in str(failure):
            raise
        return
    driver.close()
    raise Failure(f"a driver on uring runs, though {cause}")


def fallsBack(host: Host, cause: str) -> None:
    """Drivers that may use `mmsg` as well do, and say why it is not `uring`."""
    ends: list[End] = []
    try:
        for _ in range(2):
            ends.append(End(host, "127.0.0.1", OUTRIGGER_BACKENDS="uring,mmsg"))
        for ready in (end.driver.ready for end in ends):
            if ready["backend"] != "mmsg" or cause not in ready["backendReasons"]:
                raise Failure(f"the driver says {ready}")
        both(*ends, 300, "mix")
    finally:
        for end in ends:
            end.close(quiet=True)


def refused(body):
    """A check: `body` with a host where io_uring can be had."""

    def check(_: xdp.World) -> None:
        host = Host("refused")
        try:
            body(host)
        finally:
            host.close()

    return check


def switchedOff(host: Host) -> None:
    explains(host)
    with sysctls(2):
        explains(host, kSwitchedOff, "set the sysctl to 0, or use mmsg")
        refuses(host, kSwitchedOff)
        fallsBack(host, kSwitchedOff)


def limited(host: Host) -> None:
    sidecar = Confined(host, *kSidecar)
    fix = "add the process to that group or set the sysctl to 0"
    with sysctls(1):
        explains(host)
        explains(sidecar, kLimited, f"{fix}, or use mmsg")
        # A filter that allows it, as that of the chart, is not to blame; whether it does can't be seen yet.
        explains(Confined(host, *kSidecar, *filtered(0)), kLimited, f"{fix}, see that the process' seccomp profile allows io_uring, or use mmsg")
    with sysctls(1, group=65532):
        explains(sidecar)


def filters(host: Host) -> None:
    forbidding, hiding = (Confined(host, *filtered(answer)) for answer in (errno.EPERM, errno.ENOSYS))
    fix = "run with a seccomp profile that allows io_uring_setup, io_uring_enter and io_uring_register"
    explains(hiding, kHidden, fix)
    refuses(forbidding, kForbidden)
    with sysctls(1):
        # Of root, whom the sysctl does not refuse.
        explains(forbidding, kForbidden, fix)


def checks():
    settings = {"OUTRIGGER_BACKENDS": "uring"}
    off = {**settings, "OUTRIGGER_URING_ZERO_COPY": "off"}
    return [
        ("uring: igb reads the log itself, both ways", xdp.on("igb", carries, **settings)),
        ("uring: nothing goes without a copy where it is off", xdp.on("igb", isOff, **off)),
        ("uring: switched off by sysctl: explain says so, it does not start alone, and mmsg takes its place", refused(switchedOff)),
        ("uring: limited by sysctl to a group: explain says so to whom it is closed, and to nobody else", refused(limited)),
        ("uring: forbidden or hidden by a seccomp filter: explain says which", refused(filters)),
    ]
