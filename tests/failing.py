"""System calls that fail as the test wants, in C and in Python alike: by a seccomp filter, which
Linux applies to one thread and what it starts."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

T = TypeVar("T")

# By machine: what glibc makes of `send` and `recv`.
NUMBERS = {
    "x86_64": {"send": 44, "recv": 45},
    "aarch64": {"send": 206, "recv": 207},
}

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 22, 38
SECCOMP_MODE_FILTER = 2
RETURN_ERRNO, RETURN_ALLOW = 0x00050000, 0x7FFF0000
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06


class Instruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_uint16),
        ("if_true", ctypes.c_uint8),
        ("if_false", ctypes.c_uint8),
        ("operand", ctypes.c_uint32),
    )


class Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.POINTER(Instruction)))


def while_failing(call: str, error: int, function: Callable[[], T]) -> T:
    """What `function` returns in a thread where the system call `call` fails with `error`."""
    if sys.platform != "linux" or platform.machine() not in NUMBERS:
        pytest.skip("there is no way to have a system call fail here")
    with ThreadPoolExecutor(1) as thread:  # the filter ends with it
        thread.submit(_fail, NUMBERS[platform.machine()][call], error).result()
        return thread.submit(function).result()


def _fail(number: int, error: int) -> None:
    instructions = (Instruction * 4)(
        Instruction(LOAD, 0, 0, 0),  # the call's number
        Instruction(JUMP_IF_EQUAL, 0, 1, number),
        Instruction(RETURN, 0, 0, RETURN_ERRNO | error),
        Instruction(RETURN, 0, 0, RETURN_ALLOW),
    )
    program = Program(len(instructions), instructions)
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in (
        (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0),
    ):
        if libc.prctl(*arguments):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), "prctl")
