"""Boots a machine: ``python -m skyplane_core.testing.lab.vm_boot``, run by :mod:`skyplane_core.testing.lab.vm`.

It finds itself first process of new mount, UTS, IPC and PID namespaces, reads what to do as JSON from its standard
input, makes a root file system that shows this machine's files but for what is hidden, and becomes sshd. Writes go to
memory and die with the machine. Only the standard library is used, and nothing is imported once the root has changed.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_BIND = 0x1, 0x2, 0x4, 0x1000
MNT_DETACH = 2
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
SSHD_CONFIG = """\
Port 22
ListenAddress 0.0.0.0
HostKey /etc/ssh/lab_host_key
AuthorizedKeysFile .ssh/authorized_keys
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
PidFile none
PrintMotd no
MaxStartups 200:30:400
MaxSessions 100
Subsystem sftp internal-sftp
"""


def mount(source: str, target: Path, kind: str = "", flags: int = 0, options: str = "") -> None:
    """Do what the system call of that name does, or raise OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(source.encode(), os.fsencode(target), kind.encode(), flags, options.encode()):
        number = ctypes.get_errno()
        raise OSError(number, f"cannot mount {kind or source}: {os.strerror(number)}", str(target))


def hide(upper: Path, paths: Iterable[str]) -> None:
    """Make paths look as if they were not there: overlayfs takes a character device 0/0 for a deleted file."""
    for path in paths:
        if not os.path.lexists(path):
            continue
        # A directory of ours in place of a symbolic link to one would hide what is there.
        real = Path(path).parent.resolve() / Path(path).name
        for parent in reversed(real.parents[:-1]):
            _like(parent, upper / parent.relative_to("/"))
        place = upper / real.relative_to("/")
        if not os.path.lexists(place):
            os.mknod(place, 0o20000, os.makedev(0, 0))


def _like(original: Path, copy: Path) -> None:
    """A directory of the upper layer decides about mode and owner of the merged one."""
    if not copy.exists():
        status = original.stat()
        copy.mkdir()
        os.chown(copy, status.st_uid, status.st_gid)
        copy.chmod(status.st_mode & 0o7777)


def make_root(directory: Path, disk_mb: int, hidden: Iterable[str], fresh: Iterable[str]) -> Path:
    """Mount the machine's file systems below a directory, and return where its root is."""
    mount("tmpfs", directory, "tmpfs", options=f"size={disk_mb}m,mode=755")
    upper, work, root = (directory / name for name in ("upper", "work", "root"))
    for path in (upper, work, root):
        path.mkdir()
    hide(upper, hidden)
    mount("overlay", root, "overlay", options=f"lowerdir=/,upperdir={upper},workdir={work}")
    mount("proc", root / "proc", "proc")
    mount("sysfs", root / "sys", "sysfs", MS_RDONLY)
    for empty in fresh:
        place = root / empty.lstrip("/")
        place.mkdir(exist_ok=True)
        mount("tmpfs", place, "tmpfs", MS_NOSUID | MS_NODEV, f"size={disk_mb}m,mode={_mode(empty)}")
    make_devices(root / "dev", disk_mb)
    return root


def _mode(path: str) -> str:
    return {"/root": "700", "/home": "755", "/run": "755"}.get(path, "1777")


def make_devices(dev: Path, disk_mb: int) -> None:
    """A /dev with the usual few, terminals and shared memory of its own."""
    mount("tmpfs", dev, "tmpfs", MS_NOSUID, "size=64k,mode=755")
    for name in DEVICES:
        original = Path("/dev", name)
        if original.exists():
            (dev / name).touch()
            mount(str(original), dev / name, flags=MS_BIND)
    for name in ("pts", "shm"):
        (dev / name).mkdir()
    mount("devpts", dev / "pts", "devpts", options="newinstance,ptmxmode=0666,mode=620")
    mount("tmpfs", dev / "shm", "tmpfs", MS_NOSUID | MS_NODEV, f"size={disk_mb}m,mode=1777")
    (dev / "ptmx").symlink_to("pts/ptmx")
    (dev / "fd").symlink_to("/proc/self/fd")
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        (dev / name).symlink_to(f"/proc/self/fd/{number}")


def write_settings(root: Path, name: str, peers: dict[str, str], authorized_key: str, host_key: str) -> None:
    """Names, keys, and the configuration of sshd."""
    (root / "etc/hostname").write_text(f"{name}\n")
    lines = ["127.0.0.1 localhost", *(f"{ip} {peer}" for peer, ip in peers.items())]
    replace(root / "etc/hosts", "\n".join(lines) + "\n")
    replace(root / "etc/resolv.conf", "")
    # sshd refuses an account that is locked, as root's is on some images.
    accounts = (root / "etc/shadow").read_text().splitlines()
    fields = [account.split(":") for account in accounts]
    unlocked = [":".join([it[0], "*", *it[2:]]) if it[0] == "root" else ":".join(it) for it in fields]
    (root / "etc/shadow").write_text("\n".join(unlocked) + "\n")
    (root / "run/sshd").mkdir(mode=0o755)
    (root / "root/.ssh").mkdir(mode=0o700)
    (root / "root/.ssh/authorized_keys").write_text(authorized_key)
    key = root / "etc/ssh/lab_host_key"
    key.touch(mode=0o600)
    key.write_text(host_key)
    (root / "etc/ssh/lab_sshd_config").write_text(SSHD_CONFIG)


def replace(path: Path, text: str) -> None:
    """Write a file that may be a symbolic link to somewhere else."""
    path.unlink(missing_ok=True)
    path.write_text(text)


def disguise_python(root: Path, version: str) -> None:
    """Let python3 say that it is of another version, in ``--version`` as in ``sys.version_info``."""
    python = root / "usr/bin/python3"
    real = python.parent / python.readlink() if python.is_symlink() else python
    library = root / "usr/lib" / real.name
    disguised = root / "usr/lib/lab-python"
    disguised.mkdir()
    shutil.copy2(real, disguised / "python3")
    for link in (root / "usr/bin").glob("python*"):
        link.unlink()
    python.write_text(
        f'#!/bin/sh\ncase "$1" in -V|-VV|--version) echo "Python {version}"; exit 0 ;; esac\n'
        'exec /usr/lib/lab-python/python3 "$@"\n'
    )
    python.chmod(0o755)
    numbers = tuple(int(number) for number in version.split("."))
    replace(
        library / "sitecustomize.py",
        "import collections, sys\n"
        "_kind = collections.namedtuple('version_info', 'major minor micro releaselevel serial')\n"
        f"sys.version_info = _kind(*{numbers!r}, 'final', 0)\n"
        f"sys.version = '{version} (lab)'\n",
    )


def change_root(root: Path) -> None:
    """Make it the root of this mount namespace, and forget the old one."""
    os.chdir(root)
    subprocess.run(["/usr/sbin/pivot_root", ".", "."], check=True)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(b".", MNT_DETACH):
        raise OSError(ctypes.get_errno(), "cannot leave the old root")
    os.chroot(".")
    os.chdir("/")


def main() -> None:
    """Boot; see the module."""
    order: dict[str, Any] = json.load(sys.stdin)
    root = make_root(Path(order["directory"]), order["disk_mb"], order["hidden"], order["fresh"])
    write_settings(root, order["name"], order["peers"], order["authorized_key"], order["host_key"])
    if order["python_version"]:
        disguise_python(root, order["python_version"])
    socket.sethostname(order["name"])
    change_root(root)
    command = ["/usr/sbin/sshd", "-D", "-e", "-f", "/etc/ssh/lab_sshd_config"]
    os.execve(command[0], command, {"PATH": order["path"]})  # noqa: S606 - a program to become, not one to start


if __name__ == "__main__":
    main()
