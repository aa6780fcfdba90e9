# SPDX-License-Identifier: Apache-2.0
"""Writes a folder as an initial RAM file system: cpio.py FOLDER OUT. Needs no device nodes on this machine: /dev/console is made up.
Format: Linux Documentation/driver-api/early-userspace/buffer-format.rst."""
import os
import sys


class Archive:
    def __init__(self, path: str) -> None:
        self.file = open(path, "wb")
        self.inode = 0

    def add(self, name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)) -> None:
        self.inode += 1
        encoded = name.encode() + b"\0"
        fields = (self.inode, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(encoded), 0)
        record = b"070701" + b"".join(b"%08x" % field for field in fields) + encoded
        record += b"\0" * (-len(record) % 4) + data
        self.file.write(record + b"\0" * (-len(data) % 4))


def main(folder: str, target: str) -> None:
    archive = Archive(target)
    archive.add("dev", 0o40755)
    archive.add("dev/console", 0o20600, device=(5, 1))
    for path, folders, files in os.walk(folder):
        folders.sort()
        relative = os.path.relpath(path, folder)
        if relative not in (".", "dev"):
            archive.add(relative, 0o40755)
        for name in sorted(files):
            with open(os.path.join(path, name), "rb") as file:
                archive.add(os.path.normpath(os.path.join(relative, name)), 0o100755, file.read())
    archive.add("TRAILER!!!", 0)
    archive.file.close()


main(*sys.argv[1:3])
