"""File rules of the kernel: reading under a few folders, and nothing else.

Landlock, Linux 5.13 or later. Sources: Documentation/userspace-api/landlock.rst, linux/landlock.h; the three system calls
have the same number on every processor.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_ASK_VERSION = 1
_PATH_BENEATH = 1
_READ_FILE, _READ_FOLDER = 1 << 2, 1 << 3
# version of the interface -> how many rights on files it knows; each later one adds a bit
_RIGHTS = ((1, 13), (2, 14), (3, 15), (5, 16))
_TCP = 0b11  # bind and connect, from version 4 on
_SCOPES = 0b11  # abstract sockets, signals: from version 6 on


def restrict(readable: Iterable[str]) -> bool:
    """Let this process read under these paths and touch no other file from now on; whether the kernel can."""
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(_CREATE, None, ctypes.c_size_t(0), _ASK_VERSION)
    if version < 1:
        return False
    n_rights = max(n for least, n in _RIGHTS if version >= least)
    handled = struct.pack("<Q", (1 << n_rights) - 1)
    if version >= 4:
        handled += struct.pack("<Q", _TCP)
    if version >= 6:
        handled += struct.pack("<Q", _SCOPES)
    rules = libc.syscall(_CREATE, handled, ctypes.c_size_t(len(handled)), 0)
    if rules < 0:
        return False
    try:
        for path in readable:
            _allow(libc, rules, path)
        done: int = libc.syscall(_RESTRICT, rules, 0)
        return done == 0
    finally:
        os.close(rules)


def _allow(libc: ctypes.CDLL, rules: int, path: str) -> None:
    try:
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what is not there need not be read
    try:
        rights = _READ_FILE | _READ_FOLDER if os.path.isdir(path) else _READ_FILE  # noqa: PTH112 - pathlib is slow to import
        libc.syscall(_ADD, rules, _PATH_BENEATH, struct.pack("<Qi", rights, opened), 0)
    finally:
        os.close(opened)
