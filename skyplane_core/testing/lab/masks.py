"""What a machine of the lab must not see of the one that it runs on: checkouts, environments, installed packages.

A fresh server has an interpreter and nothing else. What a gateway needs there has to be brought along, and a test
that found it lying about would prove nothing.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path

FRESH = ("/home", "/root", "/run", "/tmp", "/var/tmp")  # noqa: S108 - not used, but hidden
"""Empty on every machine of the lab: users' homes with their keys, and whatever runs or lies about here."""
OTHER_ROOTS = ("/dev", "/proc", "/sys")
FOUND_BY_NAME = ("site-packages", "dist-packages", "ensurepip", ".pyenv", ".git", "pyvenv.cfg")
MARKS_PARENT = (".git", "pyvenv.cfg")
"""These say that the directory around them is a checkout, or a virtual environment."""
SYSTEM_PREFIXES = ("/", "/usr", "/usr/local")
INTERPRETERS = ("python*", "pypy*")
INSTALLERS = ("pip*", "uv", "uvx", "virtualenv")
SYSTEM_PYTHON = Path("/usr/bin/python3")


@functools.cache
def hidden() -> tuple[str, ...]:
    """Paths of this machine that no machine of the lab shows. Looks through the root file system once: some seconds.

    Of interpreters only those in /usr/bin are left, without pip. Paths below :data:`FRESH` are not among them.
    """
    installers = (path for name in INSTALLERS for path in SYSTEM_PYTHON.parent.glob(name))
    found = {*_by_name(), *_own(), *_interpreters(), *installers}
    kept: list[str] = []
    for path in sorted(found, key=lambda path: path.parts):
        if not _below(path, (*FRESH, *OTHER_ROOTS, *kept)):
            kept.append(str(path))
    return tuple(kept)


def system_interpreters() -> tuple[str, ...]:
    """What has to go for a machine without Python."""
    return tuple(str(path) for name in INTERPRETERS for path in sorted(SYSTEM_PYTHON.parent.glob(name)))


def _by_name() -> list[Path]:
    pruned = [word for root in (*FRESH, *OTHER_ROOTS) for word in ("-path", root, "-o")][:-1]
    names = [word for name in FOUND_BY_NAME for word in ("-name", name, "-o")][:-1]
    command = ["find", "/", "-xdev", "(", *pruned, ")", "-prune", "-o", "(", *names, ")", "-prune", "-print0"]
    # Its exit code is not zero if a file vanished meanwhile, which is none of our business.
    listed = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=300, check=False)
    paths = [Path(os.fsdecode(line)) for line in listed.stdout.split(b"\0") if line]
    return [_marked(path) if path.name in MARKS_PARENT else path for path in paths]


def _marked(path: Path) -> Path:
    """The checkout or environment, unless the system itself is one: /etc may well be under version control."""
    parent = path.parent
    needed = (SYSTEM_PYTHON, Path("/etc/passwd"), Path("/usr/sbin/sshd"))
    return path if any(file.is_relative_to(parent) for file in needed) else parent


def _own() -> list[Path]:
    """Where this very program comes from, and the repository that its checkout is a worktree of."""
    checkout = Path(__file__).resolve().parents[3]
    found = [Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).resolve().parents[1]]
    if (checkout / "pyproject.toml").exists():
        found.append(checkout)
        git = checkout / ".git"
        if git.is_file():
            # "gitdir: /somewhere/repository/.git/worktrees/name", see gitrepository-layout(5)
            found.append(Path(git.read_text().removeprefix("gitdir:").strip()).parents[2])
    return [path for path in found if str(path) not in SYSTEM_PREFIXES]


def _interpreters() -> list[Path]:
    places = {Path(place) for place in os.environ.get("PATH", "").split(":") if place} | {Path("/usr/local/bin")}
    others = [place for place in places if place.resolve() not in {Path("/usr/bin"), Path("/usr/sbin")}]
    return [path for place in others for name in (*INTERPRETERS, *INSTALLERS) for path in place.glob(name)]


def _below(path: Path, roots: tuple[str, ...]) -> bool:
    return any(path.is_relative_to(root) for root in roots)
