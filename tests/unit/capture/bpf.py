"""A classic BPF machine of a few lines: runs a seccomp filter on one system call, as the kernel would."""

from __future__ import annotations

import struct

ALLOW, NOTIFY = 0x7FFF0000, 0x7FC00000


def run(program: bytes, number: int, arch: int, arguments: tuple[int, ...] = ()) -> int:
    """What the filter answers. Raises AssertionError where the kernel would refuse the program."""
    arguments = (arguments + (0,) * 6)[:6]
    data = struct.pack("=IIQ6Q", number & 0xFFFFFFFF, arch, 0, *(each & 2**64 - 1 for each in arguments))
    steps = list(struct.iter_unpack("=HBBI", program))
    assert 0 < len(steps) <= 4096
    at = value = 0
    for _ in range(len(steps)):  # jumps go forward only: each step is met once
        code, yes, no, operand = steps[at]
        at += 1
        if code == 0x20:
            assert operand % 4 == 0 and operand < len(data)
            (value,) = struct.unpack_from("=I", data, operand)
        elif code == 0x54:
            value &= operand
        elif code == 0x05:
            at += operand
        elif code == 0x15:
            at += yes if value == operand else no
        elif code == 0x45:
            at += yes if value & operand else no
        elif code == 0x06:
            return int(operand)
        else:
            raise AssertionError(f"unknown step {code:#x}")
    raise AssertionError("the program does not end with an answer")
