"""Linux namespaces and mounts, by the C library."""

import ctypes
import fcntl
import os
import socket
import struct

NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 8, 32, 4096, 16384, 1 << 18
PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 24, 38
KEPT_FLAGS = MS_NOSUID | MS_NODEV | MS_NOEXEC | 1024 | 2048  # statvfs names them with the same bits

libc = ctypes.CDLL(None, use_errno=True)


def check(result, what):
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")
    return result


def unshare(flags):
    check(libc.unshare(flags), "unshare")


def prctl(option, value):
    return libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0)


def mount(source, target, kind=None, flags=0, options=None):
    def text(value):
        return None if value is None else os.fsencode(value)
    check(libc.mount(text(source), text(target), text(kind), ctypes.c_ulong(flags), text(options)), f"mount {target}")


def bind_read_only(source, target):
    mount(source, target, flags=MS_BIND | MS_REC)
    kept = os.statvfs(target).f_flag & KEPT_FLAGS
    mount(None, target, flags=MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | kept)


def may_be_any_user():
    """Whether this process may become any user: root, outside a user namespace."""
    with open("/proc/self/uid_map", encoding="ascii") as ids:
        return os.geteuid() == 0 and ids.read().split() == ["0", "0", "4294967295"]


def unshare_as(user, group, flags):
    """Into new namespaces, a user namespace among them, in which the present user is `user`."""
    outside = os.geteuid(), os.getegid()
    unshare(flags | NEWUSER)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {outside[0]} 1"), ("gid_map", f"{group} {outside[1]} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)


def isolate_network():
    """This process and its children get a network of their own, with nothing but loopback."""
    try:
        unshare(NEWNET)
    except PermissionError:
        unshare_as(0, 0, NEWNET)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        flags = struct.pack("16sh", b"lo", 0x1 | 0x40)  # IFF_UP | IFF_RUNNING
        fcntl.ioctl(control, 0x8914, flags)  # SIOCSIFFLAGS
