"""The system calls that a model's code is denied, as a seccomp filter.

A list of what is denied, not of what is allowed: an interpreter's own needs differ by version and C library. The file
rules (`_landlock`) and the empty network namespace stand behind it.
Sources: linux/seccomp.h, linux/filter.h; numbers: arch/x86/entry/syscalls/syscall_64.tbl, asm-generic/unistd.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column below, AUDIT_ARCH_*
_X32 = 0x40000000  # on x86_64 the same calls again, under numbers from here on

# name: number on x86_64, on aarch64 (None: not there). One number: the same on both
_DENIED: dict[str, dict[str, tuple[int | None, ...]]] = {
    "processes": {
        "clone": (56, 220), "fork": (57, None), "vfork": (58, None), "clone3": (435,),
        "execve": (59, 221), "execveat": (322, 281), "setsid": (112, 157), "setpgid": (109, 154),
    },
    "network": {
        "socket": (41, 198), "socketpair": (53, 199), "bind": (49, 200), "listen": (50, 201), "accept": (43, 202),
        "connect": (42, 203), "accept4": (288, 242), "sendto": (44, 206), "sendmsg": (46, 211), "sendmmsg": (307, 269),
    },
    "others": {
        "kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131), "rt_sigqueueinfo": (129, 138),
        "rt_tgsigqueueinfo": (297, 240), "pidfd_send_signal": (424,), "pidfd_open": (434,), "pidfd_getfd": (438,),
        "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
        "process_madvise": (440,), "prlimit64": (302, 261), "setrlimit": (160, 164), "setpriority": (141, 140),
        "sched_setaffinity": (203, 122), "sched_setscheduler": (144, 119), "ioprio_set": (251, 30),
        "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "semget": (64, 190), "msgget": (68, 186),
        "mq_open": (240, 180), "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    },
    "files": {
        "creat": (85, None), "mkdir": (83, None), "mkdirat": (258, 34), "mknod": (133, None), "mknodat": (259, 33),
        "unlink": (87, None), "unlinkat": (263, 35), "rmdir": (84, None), "rename": (82, None), "renameat": (264, 38),
        "renameat2": (316, 276), "link": (86, None), "linkat": (265, 37), "symlink": (88, None), "symlinkat": (266, 36),
        "truncate": (76, 45), "openat2": (437,), "memfd_create": (319, 279), "memfd_secret": (447,),
        "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452,), "chown": (92, None),
        "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54), "utime": (132, None), "utimes": (235, None),
        "futimesat": (261, None), "utimensat": (280, 88), "setxattr": (188, 5), "lsetxattr": (189, 6),
        "fsetxattr": (190, 7), "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
    },
    "kernel": {
        "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "unshare": (272, 97),
        "setns": (308, 268), "open_tree": (428,), "move_mount": (429,), "fsopen": (430,), "fsconfig": (431,),
        "fsmount": (432,), "fspick": (433,), "mount_setattr": (442,), "bpf": (321, 280), "perf_event_open": (298, 241),
        "userfaultfd": (323, 282), "io_uring_setup": (425,), "io_uring_enter": (426,), "io_uring_register": (427,),
        "reboot": (169, 142), "swapon": (167, 224), "swapoff": (168, 225), "init_module": (175, 105),
        "finit_module": (313, 273), "delete_module": (176, 106), "kexec_load": (246, 104), "acct": (163, 89),
        "settimeofday": (164, 170), "clock_settime": (227, 112), "adjtimex": (159, 171), "sethostname": (170, 161),
        "personality": (135, 92),
    },
}  # fmt: skip
# opening for writing: number and the argument with the flags
_OPENS: dict[str, tuple[tuple[int | None, ...], int]] = {"open": ((2, None), 1), "openat": ((257, 56), 2)}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

# offsets in struct seccomp_data
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_LOAD, _JUMP_EQUAL, _JUMP_FROM, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL = 0x7FFF0000, 0x80000000
_REFUSE = 0x00050000 | errno.EPERM


def deny() -> bool:
    """Deny these calls to this process from now on; whether the system lets us."""
    program = _program()
    if program is None:
        return False

    class Filter(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("program", ctypes.c_char_p))

    libc = ctypes.CDLL(None, use_errno=True)
    made = Filter(len(program) // 8, program)
    done: int = libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(made), 0, 0)
    return done == 0


def _program() -> bytes | None:
    """The filter; None for a processor that it is not written for."""
    machine = os.uname().machine
    if machine not in _ARCHITECTURES or struct.calcsize("P") != 8:
        return None
    column, architecture = _ARCHITECTURES[machine]
    steps = [
        _step(_LOAD, _ARCHITECTURE),
        _step(_JUMP_EQUAL, architecture, yes=1),
        _step(_RETURN, _KILL),
        _step(_LOAD, _NUMBER),
    ]
    if machine == "x86_64":
        steps += [_step(_JUMP_FROM, _X32, no=1), _step(_RETURN, _REFUSE)]
    for family in _DENIED.values():
        for numbers in family.values():
            number = numbers[min(column, len(numbers) - 1)]
            if number is not None:
                steps += [_step(_JUMP_EQUAL, number, no=1), _step(_RETURN, _REFUSE)]
    for numbers, argument in _OPENS.values():
        number = numbers[column]
        if number is not None:
            steps += [
                _step(_JUMP_EQUAL, number, no=4),
                _step(_LOAD, _ARGUMENTS + 8 * argument),  # the lower half: both processors are little-endian
                _step(_JUMP_ANY_BIT, _WRITING, no=1),
                _step(_RETURN, _REFUSE),
                _step(_RETURN, _ALLOW),
            ]
    return b"".join([*steps, _step(_RETURN, _ALLOW)])


def _step(code: int, value: int, *, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("<HBBI", code, yes, no, value)
