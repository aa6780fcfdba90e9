# SPDX-License-Identifier: Apache-2.0
"""Takes the kernel proper out of a bzImage: vmlinux.py BZIMAGE OUT. QEMU starts that directly; a guest that is emulated would spend
seconds on unpacking it. Offsets: Linux Documentation/arch/x86/boot.rst."""
import struct
import subprocess
import sys

kSetupSects = 0x1F1
kPayload = 0x248  # offset and length, after the protected-mode code's start
kUnpackers = {
    # The compressed data is followed by its size, which is no part of the stream.
    b"\x28\xb5\x2f\xfd": ["zstd", "-dcq"],
    b"\xfd7zXZ\0": ["xz", "-dcq", "--single-stream"],
    b"\x1f\x8b": ["gzip", "-dcq"],
}


def main(source: str, target: str) -> None:
    image = open(source, "rb").read()
    start = ((image[kSetupSects] or 4) + 1) * 512
    offset, length = struct.unpack_from("<II", image, kPayload)
    payload = image[start + offset : start + offset + length]
    command = next((c for magic, c in kUnpackers.items() if payload.startswith(magic)), None)
    if command is not None:
        payload = subprocess.run(command, input=payload[:-4], stdout=subprocess.PIPE, check=False).stdout
    if not payload.startswith(b"\x7fELF"):
        sys.exit(f"{source}: its payload is no ELF file, even after {command}")
    open(target, "wb").write(payload)


main(*sys.argv[1:3])
