# SPDX-License-Identifier: Apache-2.0
"""Runs a command under a seccomp filter (seccomp(2)) that answers an errno to io_uring's three calls, or with 0 lets all through:
filtered.py ERRNO COMMAND [ARGS...]"""
import ctypes
import os
import struct
import sys

kCalls = (425, 426, 427)  # io_uring_setup, _enter, _register
kSetNoNewPrivileges, kSetSeccomp, kFilter = 38, 22, 2  # linux/prctl.h, linux/seccomp.h
kLoadNumber, kIfEqual, kReturn = 0x20, 0x15, 0x06  # linux/filter.h: a word of struct seccomp_data, which begins with the call's number
kErrno, kAllow = 0x00050000, 0x7FFF0000


def instructions(answer: int) -> list[tuple[int, int, int, int]]:
    program = [(kLoadNumber, 0, 0, 0)]
    # Each jumps over the others and the allowance to the last.
    program += [(kIfEqual, len(kCalls) - i, 0, call) for i, call in enumerate(kCalls)]
    return [*program, (kReturn, 0, 0, kAllow), (kReturn, 0, 0, kErrno | answer if answer else kAllow)]


def main(answer: int, command: list[str]) -> None:
    program = instructions(answer)
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *each) for each in program))
    description = struct.pack("@HP", len(program), ctypes.addressof(code))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(kSetNoNewPrivileges, 1, 0, 0, 0) != 0 or prctl(kSetSeccomp, kFilter, description, 0, 0) != 0:
        sys.exit(f"no filter: {os.strerror(ctypes.get_errno())}")
    os.execvp(command[0], command)


main(int(sys.argv[1]), sys.argv[2:])
