# SPDX-License-Identifier: Apache-2.0
"""What the checks in the lab VM are made of: NICs by driver, hosts (network namespaces), drivers and peers that exchange counted messages.
Nothing here may be timed: all is emulated. Time-outs are there to end what hangs."""
import ctypes
import itertools
import json
import os
import pathlib
import select
import signal
import socket
import struct
import subprocess
import time

kRoot = pathlib.Path(__file__).resolve().parents[3]
kBuild = pathlib.Path(os.environ.get("OUTRIGGER_LAB_BUILD", kRoot / "build/native"))
kPci = pathlib.Path("/sys/bus/pci")
kHugepages = pathlib.Path("/sys/kernel/mm/hugepages/hugepages-2048kB")
kPatienceSeconds = 90
# Emulated and shared, a machine may stall for seconds; a driver must not give up on a client or an image meanwhile.
kPatientDriver = {
    "AERON_CLIENT_LIVENESS_TIMEOUT": "60s",
    "AERON_IMAGE_LIVENESS_TIMEOUT": "60s",
    "AERON_PUBLICATION_CONNECTION_TIMEOUT": "60s",
    "AERON_PUBLICATION_UNBLOCK_TIMEOUT": "90s",
    "AERON_TERM_BUFFER_SPARSE_FILE": "true",
}


class Failure(Exception):
    pass


def run(*command: str, ok: bool = True) -> str:
    """Standard output of a command that has to end well."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=kPatienceSeconds)
    if ok and done.returncode != 0:
        raise Failure(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def write(path: pathlib.Path | str, text: str) -> None:
    try:
        pathlib.Path(path).write_text(text)
    except OSError as error:
        raise Failure(f"cannot write {text.strip()!r} to {path}: {error}") from error


def number(path: pathlib.Path | str) -> int:
    return int(pathlib.Path(path).read_text())


def explain(host: "Host | None" = None, **environment: str) -> str:
    """What `outrigger explain` says of a driver with these settings."""
    command = [str(kBuild / "outrigger-driver"), "--explain"]
    done = subprocess.run(
        command if host is None else host.command(*command),
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=kPatienceSeconds,
        stdin=subprocess.DEVNULL,
    )
    return done.stdout + done.stderr


def until(what: str, condition, seconds: float = kPatienceSeconds):
    """The first true answer of `condition`."""
    end = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > end:
            raise Failure(f"never happened: {what}")
        time.sleep(0.1)


def load(*modules: str) -> None:
    for module in modules:
        run("modprobe", module)


def functions(driver: str) -> list[str]:
    """PCI addresses bound to a driver, in order."""
    folder = kPci / "drivers" / driver
    return sorted(entry.name for entry in folder.iterdir() if entry.name.startswith("0000:"))


def interface(address: str) -> str:
    """The network interface of a PCI function (virtio's lies one device deeper)."""
    device = kPci / "devices" / address
    return until(f"an interface of {address}", lambda: next((p.name for p in device.glob("**/net/*")), None))


class Host:
    """A network namespace."""

    def __init__(self, name: str) -> None:
        self.name = name
        run("ip", "netns", "add", name)
        self.ip("link", "set", "lo", "up")

    def ip(self, *arguments: str) -> str:
        return run("ip", "-n", self.name, *arguments)

    def command(self, *command: str) -> list[str]:
        return ["ip", "netns", "exec", self.name, *command]

    def run(self, *command: str, ok: bool = True) -> str:
        return run(*self.command(*command), ok=ok)

    def take(self, link: str, *addresses: str) -> None:
        """Moves an interface here, gives it addresses, brings it up, and waits for its carrier."""
        run("ip", "link", "set", link, "netns", self.name)
        self.configure(link, *addresses)

    def configure(self, link: str, *addresses: str) -> None:
        for address in addresses:
            self.ip("address", "add", address, "dev", link, *(["nodad"] if ":" in address else []))
        self.ip("link", "set", link, "up")
        self.carrier(link)

    def carrier(self, link: str) -> None:
        until(f"carrier of {link}", lambda: "LOWER_UP" in self.ip("link", "show", link))

    def ping(self, address: str, device: str = "") -> None:
        output = self.run("/run/busybox", "ping", "-c", "3", "-W", "10", address, ok=False)
        if " 0% packet loss" not in output:
            raise Failure(f"no echo from {address} to {self.name}: {output.strip()}")

    def udp(self, device: str = "") -> socket.socket:
        """A UDP socket of this host, which sends from one device alone when it is named."""
        libc = ctypes.CDLL(None, use_errno=True)

        def enter(namespace) -> None:
            if libc.setns(namespace.fileno(), 0) != 0:
                raise Failure(f"cannot enter a network namespace: {os.strerror(ctypes.get_errno())}")

        with open("/proc/thread-self/ns/net") as own, open(f"/run/netns/{self.name}") as there:
            enter(there)
            try:
                made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            finally:
                enter(own)
        if device:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        return made

    def close(self) -> None:
        run("ip", "netns", "del", self.name, ok=False)


class Driver:
    """outrigger-driver on a host."""

    serial = itertools.count()

    def __init__(self, host: Host, **environment: str) -> None:
        self.directory = pathlib.Path(f"/dev/shm/lab-{next(self.serial)}")
        self.log = pathlib.Path(f"{self.directory}.log")
        variables = {"PATH": os.environ["PATH"], "AERON_DIR": str(self.directory), **kPatientDriver, **environment}
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                host.command(str(kBuild / "outrigger-driver")), env=variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            self.ready = until("driver is ready", self._readyLine)
        except Failure as failure:
            # Left alone it would keep its device, which then can't be taken away.
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
                raise Failure(f"{failure}: {self.log.read_text()[-2000:]}") from None
            raise

    def _readyLine(self) -> dict:
        for line in self.log.read_text().splitlines():
            if '"driver is ready"' in line:
                return json.loads(line)
        if self.process.poll() is not None:
            raise Failure(f"the driver ended with {self.process.returncode}: {self.log.read_text()[-2000:]}")
        return {}

    def counters(self) -> dict[str, int]:
        """What the driver counts, by label, out of the file that it shares with its clients (docs of Aeron: CnC file). Those of the network
        go by the name that docs/netstack.md explains, as in "device_fill_ring_empty"."""
        data = (self.directory / "cnc.dat").read_bytes()
        _, toDriver, toClients, metadata, values = struct.unpack_from("<5i", data)
        start = 128 + toDriver + toClients  # behind a header of two cache lines
        found: dict[str, int] = {}
        for i in range(metadata // 512):
            record = start + i * 512
            state, _ = struct.unpack_from("<2i", data, record)
            if state == 0:
                break
            (length,) = struct.unpack_from("<i", data, record + 128)
            label = data[record + 132 : record + 132 + length].decode()
            (value,) = struct.unpack_from("<q", data, start + metadata + i * 128)
            if state == 1 and i < values // 128:
                found[label.removeprefix("outrigger network: ")] = value
        return found

    def counted(self, name: str) -> int:
        counters = self.counters()
        if name not in counters:
            raise Failure(f"the driver has no counter {name}, only {sorted(counters)}")
        return counters[name]

    def stop(self) -> None:
        """Halts all of its threads, until go()."""
        self.process.send_signal(signal.SIGSTOP)

    def go(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self.process.terminate()
        try:
            code = self.process.wait(kPatienceSeconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise Failure(f"the driver did not end: {self.log.read_text()[-2000:]}") from None
        if code != 0:
            raise Failure(f"the driver ended with {code}: {self.log.read_text()[-2000:]}")


class Peer:
    """A process with a client, ours or real Aeron's, that obeys one request a line (as in test/interop)."""

    names = itertools.count()

    def __init__(self, host: Host, command: list[str]) -> None:
        self.requests = 0
        self.lines: dict[int, str] = {}
        self.answers: dict[int, dict] = {}
        self.part = b""  # of a line
        self.log = pathlib.Path(f"/dev/shm/lab-peer-{next(self.names)}.log")
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                host.command(*command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, bufsize=0
            )

    @classmethod
    def native(cls, host: Host) -> "Peer":
        return cls(host, [str(kBuild / "bench_interop_peer")])

    @classmethod
    def java(cls, host: Host) -> "Peer":
        folder = kRoot / "build/lab/java"
        if not folder.is_dir():
            raise Failure("real Aeron is not built: run test/lab/aeron")
        options = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto -Xmx128m -XX:-UsePerfData".split()
        opens = ["--add-opens", "java.base/jdk.internal.misc=ALL-UNNAMED"]
        return cls(host, ["java", *options, *opens, "-cp", f"{folder}/*", "dev.outrigger.interop.Peer", "serve"])

    def start(self, verb: str, **arguments) -> int:
        """Asks without waiting; answer() has the rest."""
        self.requests += 1
        self.lines[self.requests] = " ".join([verb, *(f"{key.replace('_', '-')}={value}" for key, value in arguments.items())])
        self.process.stdin.write(f"{self.requests} {self.lines[self.requests]}\n".encode())
        return self.requests

    def answer(self, request: int, seconds: float = kPatienceSeconds) -> dict:
        line = self.lines.pop(request)
        end = time.monotonic() + seconds
        while request not in self.answers:
            if not select.select([self.process.stdout], [], [], max(0, end - time.monotonic()))[0]:
                raise Failure(f"no answer to {line!r}: {self.log.read_text()[-1000:]}")
            received = os.read(self.process.stdout.fileno(), 65536)
            if not received:
                raise Failure(f"{line!r}: the peer ended: {self.log.read_text()[-1000:]}")
            *whole, self.part = (self.part + received).split(b"\n")
            for parsed in map(json.loads, whole):
                if "re" in parsed:
                    self.answers[parsed["re"]] = parsed
        parsed = self.answers.pop(request)
        if "error" in parsed:
            raise Failure(f"{line!r}: {parsed['error']}")
        return parsed

    def request(self, verb: str, **arguments) -> dict:
        return self.answer(self.start(verb, **arguments))

    def client(self, directory: pathlib.Path) -> str:
        name = f"c{next(self.names)}"
        self.request("client", name=name, dir=directory, driver_timeout_ms=60000)
        return name

    def close(self) -> None:
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class End:
    """A host with a driver and a client at it. `java`: both are real Aeron's."""

    def __init__(self, host: Host, address: str, java: bool = False, **environment: str) -> None:
        self.host = host
        self.address = address
        self.driver = None
        self.peer = None
        try:
            if java:
                self.peer = Peer.java(host)
                directory = pathlib.Path(f"/dev/shm/lab-java-{next(Driver.serial)}")
                properties = {
                    "aeron.client.liveness.timeout": "60s",
                    "aeron.image.liveness.timeout": "60s",
                    "aeron.publication.unblock.timeout": "90s",
                }
                self.peer.request("driver", name=f"d{next(Peer.names)}", dir=directory, **properties)
            else:
                self.driver = Driver(host, **environment)
                directory = self.driver.directory
                self.peer = Peer.native(host)
            self.client = self.peer.client(directory)
        except Failure:
            self.close(quiet=True)
            raise

    def close(self, quiet: bool = False) -> None:
        try:
            if self.peer is not None:
                self.peer.close()
            if self.driver is not None:
                self.driver.close()
        except Failure:
            if not quiet:
                raise


kPorts = itertools.count(20001)


class Stream:
    """A publication on one host and a subscription to it on another. The receiving peer checks every byte of each message."""

    kWait = {"timeout_ms": kPatienceSeconds * 1000 - 5000}

    def __init__(self, sender: End, receiver: End, address: str = "", term: str = "256k") -> None:
        channel = f"aeron:udp?endpoint={address or receiver.address}:{next(kPorts)}"
        self.sender, self.receiver = sender.peer, receiver.peer
        self.subscription, self.publication = f"s{next(Peer.names)}", f"p{next(Peer.names)}"
        self.sending: list[int] = []
        self.count = 0
        self.receiver.request("sub", name=self.subscription, client=receiver.client, channel=channel, stream=10)
        options = {"channel": f"{channel}|term-length={term}", "stream": 10, "exclusive": "true"}
        self.sender.request("pub", name=self.publication, client=sender.client, **options)
        self.sender.request("await-pub", name=self.publication, connected="true", **self.kWait)
        self.receiver.request("await-sub", name=self.subscription, images=1, **self.kWait)

    def send(self, count: int, size: int | str) -> None:
        """Without waiting for any to be sent."""
        self.count += count
        self.sending.append(self.sender.start("send", name=self.publication, count=count, size=size, **self.kWait))

    def arrived(self, count: int) -> None:
        """Waits until so many messages are there."""
        self.receiver.request("await-sub", name=self.subscription, count=count, **self.kWait)

    def stuck(self) -> None:
        """Waits until the sender may send no more before the receiver has said that it got some."""

        def full() -> bool:
            status = self.sender.request("pub-status", name=self.publication)
            return status["position"] >= status["limit"]

        until("the sender fills the receiver's window", full)

    def finish(self) -> None:
        """All messages arrive, each once, whole and in order."""
        for request in self.sending:
            self.sender.answer(request)
        self.arrived(self.count)
        seen = self.receiver.request("sub-status", name=self.subscription)
        images = [{key: image[key] for key in ("first", "next", "count", "outOfOrder", "corrupt")} for image in seen["images"]]
        if images != [{"first": 0, "next": self.count, "count": self.count, "outOfOrder": 0, "corrupt": 0}]:
            raise Failure(f"{self.count} messages were sent, arrived are {seen['images']}")
        self.sender.request("close", name=self.publication)
        self.receiver.request("close", name=self.subscription)


def exchange(sender: End, receiver: End, count: int, size: int | str, address: str = "") -> None:
    """`count` messages arrive, each once, whole and in order."""
    stream = Stream(sender, receiver, address)
    stream.send(count, size)
    stream.finish()


def both(a: End, b: End, count: int, size: int | str, family: int = 4) -> None:
    for sender, receiver in ((a, b), (b, a)):
        exchange(sender, receiver, count, size, receiver.address if family == 4 else f"[{receiver.host.ipv6}]")
