#!/usr/bin/env python3
"""Runs a program as a container engine would run it from an image: the image's files are all there is, and cannot be
written; /tmp, /dev and /proc are its own; it is process 1, the user by number, without capabilities. It shares the network
of its caller. Nothing of the caller's environment reaches it.

    run_container.py SPEC.json

with image, environment, user ([uid, gid]), workdir, command, hosts ({name: address}) and volumes ({path in the container:
folder}, read only). SIGTERM goes to the program; its exit status is ours.
"""

import json
import os
import pathlib
import signal
import sys

from namespaces import (MS_NODEV, MS_NOSUID, MS_PRIVATE, MS_RDONLY, MS_REC, MS_REMOUNT, NEWIPC, NEWNS, NEWPID, NEWUTS,
                        PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_SET_PDEATHSIG, bind_read_only, check, may_be_any_user,
                        mount, prctl, unshare, unshare_as)


def bind_tree(source, target):
    """Each file and folder of `source` read only in `target`, a folder that others may add to."""
    for entry in source.iterdir():
        place = target / entry.name
        if entry.is_dir():
            place.mkdir()
        else:
            place.touch()
        bind_read_only(entry, place)


def lay_out(root, spec):
    """The container's file system in `root`."""
    image = pathlib.Path(spec["image"])
    mount("none", "/", flags=MS_REC | MS_PRIVATE)
    mount("root", root, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755")
    for entry in image.iterdir():
        (root / entry.name).mkdir()
        if entry.name == "etc":  # engines put files of theirs beside the image's
            bind_tree(entry, root / "etc")
        else:
            bind_read_only(entry, root / entry.name)
    names = "".join(f"{address} {name}\n" for name, address in spec["hosts"].items())
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n" + names, encoding="utf-8")
    for place, folder in spec["volumes"].items():
        target = root / place.lstrip("/")
        target.mkdir(parents=True, exist_ok=True)
        bind_read_only(folder, target)
    for place in ("dev", "proc"):
        (root / place).mkdir()
    for device in ("null", "zero", "random", "urandom"):
        (root / "dev" / device).touch()
        mount(f"/dev/{device}", root / "dev" / device, flags=4096)  # MS_BIND
    mount("proc", root / "proc", "proc", MS_NOSUID | MS_NODEV)
    mount("tmp", root / "tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
    mount(None, root, flags=MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV)


def become(user, group):
    """That user, with no way to more rights."""
    for capability in range(64):
        prctl(PR_CAPBSET_DROP, capability)  # fails behind the last one there is
    if may_be_any_user():
        os.setgroups([])
        os.setresgid(group, group, group)
        os.setresuid(user, user, user)
    check(prctl(PR_SET_NO_NEW_PRIVS, 1), "no_new_privs")
    assert os.getuid() == os.geteuid() == user and os.getgid() == group


def run(spec, root):
    lay_out(root, spec)
    os.chroot(root)
    os.chdir(spec["workdir"])
    become(*spec["user"])
    check(prctl(PR_SET_PDEATHSIG, signal.SIGKILL), "pdeathsig")  # a change of user forgets it
    os.execvpe(spec["command"][0], spec["command"], spec["environment"])


def main():
    file = pathlib.Path(sys.argv[1])
    spec = json.loads(file.read_text(encoding="utf-8"))
    root = file.with_suffix(".root")
    root.mkdir()
    flags = NEWNS | NEWPID | NEWIPC | NEWUTS
    if may_be_any_user():
        unshare(flags)
    else:
        unshare_as(*spec["user"], flags)
    child = os.fork()
    if child == 0:
        try:
            run(spec, root)
        except BaseException as error:  # whatever it is, this process must not go on as its parent
            print(f"run_container: {error}", file=sys.stderr, flush=True)
        os._exit(125)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) & 0xff


if __name__ == "__main__":
    sys.exit(main())
