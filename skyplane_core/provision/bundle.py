"""A bundle: all that ``python3`` on another machine needs to be a gateway, as one zip file in the user's cache."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import platform
import sys
from pathlib import Path

import msgspec

import skyplane_core
from skyplane_core.errors import UsageError

LOCKS = Path(__file__).parent / "wheels"
"""The wheels of a bundle, with their SHA-256, in one file for each target."""
OWN_PACKAGES = ("skyplane_core", "gateway")
MAIN = "import sys\n\nfrom gateway.daemon import main\n\nsys.exit(main())\n"
"""Run by ``python3 DIRECTORY``."""

_LEFT_OUT = ("skyplane_core/testing/", "skyplane_core/cli/", "skyplane_core/provision/wheels/")


class Target(msgspec.Struct, frozen=True, order=True):
    """What a bundle runs on: a Python version such as ``3.11`` and an architecture such as ``x86_64``, on Linux."""

    python: str
    arch: str

    def __str__(self) -> str:
        return f"Python {self.python} {self.arch}"

    @property
    def command(self) -> str:
        """The command that builds a bundle for it."""
        return f"skyplane bundle build --python {self.python} --arch {self.arch}"


def this_target() -> Target:
    """The target that this very process would be."""
    return Target(f"{sys.version_info[0]}.{sys.version_info[1]}", platform.machine())


class BundleInfo(msgspec.Struct, frozen=True):
    """What is known about a bundle: lies beside it in the cache.

    Args:
        sha256: of the file, in hex. ``size``: its bytes. ``unpacked``: bytes of the files in it.
        glibc: the oldest C library that all its wheels run with, such as ``(2, 28)``.
        wheels: the names of the wheels in it.
    """

    target: Target
    version: str
    sha256: str
    size: int
    unpacked: int
    glibc: tuple[int, int]
    wheels: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Bundle:
    """A built bundle, as a file of this machine."""

    path: Path
    info: BundleInfo


def cache_directory() -> Path:
    """``$XDG_CACHE_HOME/skyplane/bundles``, by default below ``~/.cache``."""
    configured = Path(os.environ.get("XDG_CACHE_HOME", ""))
    base = configured if configured.is_absolute() else Path.home() / ".cache"
    return base / "skyplane" / "bundles"


_CONTENT = ("*.py", "*.json")
"""Code, and the data that it reads: list prices."""


def own_files() -> dict[str, bytes]:
    """The files of this project that a gateway runs, by their path in the bundle."""
    root = Path(skyplane_core.__file__).parent.parent
    files = {"__main__.py": MAIN.encode()}
    for package in OWN_PACKAGES:
        for path in sorted(path for pattern in _CONTENT for path in (root / package).rglob(pattern)):
            name = path.relative_to(root).as_posix()
            if not name.startswith(_LEFT_OUT):
                files[name] = path.read_bytes()
    if "gateway/daemon.py" not in files:
        raise UsageError("the gateway's code is not installed", where=str(root), next_step="Install the package whole.")
    return files


def lock_of(target: Target) -> str:
    """The pinned wheels of a target, as pip reads them.

    Raises:
        UsageError: there is no lock file for it.
    """
    try:
        return (LOCKS / f"{target.python}-{target.arch}.txt").read_text(encoding="ascii")
    except FileNotFoundError:
        known = ", ".join(sorted(path.stem.replace("-", " ", 1) for path in LOCKS.glob("*.txt")))
        raise UsageError(f"no gateway runs on {target}", next_step=f"There are bundles for: {known}.") from None


def content_key(target: Target, own: dict[str, bytes]) -> str:
    """Names a bundle by what goes into it: wheels and our files. Another version of any of them has another key."""
    content = hashlib.sha256(f"bundle 1 {target}\n{lock_of(target)}".encode())
    for name, data in own.items():
        content.update(f"{name} {len(data)}\n".encode() + data)
    return content.hexdigest()[:20]


def find(target: Target, cache: Path | None = None) -> Bundle | None:
    """The bundle of this very version for ``target``, if it has been built; None also if there is no lock for it."""
    return _find(target, own_files(), cache_directory() if cache is None else cache)


def _find(target: Target, own: dict[str, bytes], directory: Path) -> Bundle | None:
    try:
        path = directory / f"{target.python}-{target.arch}-{content_key(target, own)}.zip"
        info = msgspec.json.decode(path.with_suffix(".json").read_bytes(), type=BundleInfo)
        # The file itself is checked where it arrives: against this hash, before anything of it runs.
        return Bundle(path, info) if path.stat().st_size == info.size else None
    except (FileNotFoundError, msgspec.DecodeError, UsageError):
        return None


def available(cache: Path | None = None) -> list[Target]:
    """The targets for which :func:`find` finds a bundle."""
    targets = (Target(*path.stem.split("-", 1)) for path in sorted(LOCKS.glob("*.txt")))
    own, directory = own_files(), cache_directory() if cache is None else cache
    return [target for target in targets if _find(target, own, directory) is not None]
