# SPDX-License-Identifier: Apache-2.0
"""What the checks in the lab VM are made of: NICs by driver, hosts (network namespaces), drivers and peers that exchange counted messages.
Nothing here may be timed: all is emulated. Time-outs are there to end what hangs."""
import itertools
import json
import os
import pathlib
import select
import subprocess
import time

kRoot = pathlib.Path(__file__).resolve().parents[3]
kBuild = pathlib.Path(os.environ.get("OUTRIGGER_LAB_BUILD", kRoot / "build/native"))
kPci = pathlib.Path("/sys/bus/pci")
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
        self.ready = until("driver is ready", self._readyLine)

    def _readyLine(self) -> dict:
        for line in self.log.read_text().splitlines():
            if '"driver is ready"' in line:
                return json.loads(line)
        if self.process.poll() is not None:
            raise Failure(f"the driver ended with {self.process.returncode}: {self.log.read_text()[-2000:]}")
        return {}

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
        self.log = pathlib.Path(f"/dev/shm/lab-peer-{next(self.names)}.log")
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                host.command(*command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, bufsize=1
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

    def request(self, verb: str, seconds: float = kPatienceSeconds, **arguments) -> dict:
        self.requests += 1
        line = " ".join([verb, *(f"{key.replace('_', '-')}={value}" for key, value in arguments.items())])
        self.process.stdin.write(f"{self.requests} {line}\n")
        end = time.monotonic() + seconds
        while True:
            if not select.select([self.process.stdout], [], [], max(0, end - time.monotonic()))[0]:
                raise Failure(f"no answer to {line!r}: {self.log.read_text()[-1000:]}")
            answer = self.process.stdout.readline()
            if not answer:
                raise Failure(f"{line!r}: the peer ended: {self.log.read_text()[-1000:]}")
            parsed = json.loads(answer)
            if parsed.get("re") != self.requests:
                continue
            if "error" in parsed:
                raise Failure(f"{line!r}: {parsed['error']}")
            return parsed

    def client(self, directory: pathlib.Path) -> str:
        name = f"c{next(self.names)}"
        self.request("client", name=name, dir=directory)
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


def exchange(sender: End, receiver: End, count: int, size: int | str, address: str = "") -> None:
    """`count` messages arrive, each once, whole and in order: the receiving peer checks every byte of each."""
    channel = f"aeron:udp?endpoint={address or receiver.address}:{next(kPorts)}"
    stream = 10
    subscription, publication = f"s{next(Peer.names)}", f"p{next(Peer.names)}"
    receiver.peer.request("sub", name=subscription, client=receiver.client, channel=channel, stream=stream)
    sender.peer.request(
        "pub", name=publication, client=sender.client, channel=f"{channel}|term-length=256k", stream=stream, exclusive="true"
    )
    wait = {"timeout_ms": kPatienceSeconds * 1000 - 5000}
    sender.peer.request("await-pub", name=publication, connected="true", **wait)
    receiver.peer.request("await-sub", name=subscription, images=1, **wait)
    sender.peer.request("send", name=publication, count=count, size=size, **wait)
    receiver.peer.request("await-sub", name=subscription, count=count, **wait)
    seen = receiver.peer.request("sub-status", name=subscription)
    images = [{key: image[key] for key in ("first", "next", "count", "outOfOrder", "corrupt")} for image in seen["images"]]
    if images != [{"first": 0, "next": count, "count": count, "outOfOrder": 0, "corrupt": 0}]:
        raise Failure(f"{count} messages were sent, arrived are {images}")
    sender.peer.request("close", name=publication)
    receiver.peer.request("close", name=subscription)


def both(a: End, b: End, count: int, size: int | str, family: int = 4) -> None:
    for sender, receiver in ((a, b), (b, a)):
        exchange(sender, receiver, count, size, receiver.address if family == 4 else f"[{receiver.host.ipv6}]")
