"""Building a bundle: pinned wheels fetched by pip, checked, stripped of what never runs, packed with our own code."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import msgspec

import skyplane_core
from skyplane_core.errors import ProvisionFailed
from skyplane_core.provision.bundle import (
    LOCKS,
    Bundle,
    BundleInfo,
    Target,
    cache_directory,
    content_key,
    find,
    lock_of,
    own_files,
)

__all__ = ["ARCHITECTURES", "LOCKS", "PYTHONS", "build", "pip_target"]

log = logging.getLogger(__name__)

PYTHONS = ("3.10", "3.11", "3.12", "3.13")
ARCHITECTURES = ("x86_64", "aarch64")

_NEWEST_GLIBC = 28
"""glibc 2.28 is of 2018: Debian 10, RHEL 8, Ubuntu 20.04."""
_TAG = re.compile(r"manylinux_(\d+)_(\d+)_|(manylinux2014|manylinux2010|manylinux1)_")
_OLD_NAMES = {"manylinux2014": (2, 17), "manylinux2010": (2, 12), "manylinux1": (2, 5)}
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_EPOCH = (1980, 1, 1, 0, 0, 0)

# What never runs on a gateway: type stubs, C and Cython sources, tests, command-line tools, records of an installation.
_STRIPPED = re.compile(
    r"\.(pyi|pyx|pxd|c|h|hash|typed)$|/tests?/|^[^/]+\.data/|\.dist-info/(RECORD|WHEEL|INSTALLER|top_level\.txt|sboms/)"
    # Of cffi only the compiled part is used, by cryptography.
    r"|^cffi/"
)


def pip_target(python: str, arch: str) -> list[str]:
    """Arguments of pip that choose wheels for a target instead of for the interpreter that runs pip."""
    platforms = [f"manylinux_2_{minor}_{arch}" for minor in range(_NEWEST_GLIBC, 16, -1)]
    if arch == "x86_64":
        platforms += [f"{name}_{arch}" for name in _OLD_NAMES]
    else:
        platforms.append(f"manylinux2014_{arch}")
    chosen = ["--only-binary=:all:", "--implementation", "cp", "--python-version", python]
    return chosen + [argument for name in platforms for argument in ("--platform", name)]


def build(target: Target, cache: Path | None = None) -> Bundle:
    """The bundle for ``target``: from the cache if this very one is there, else built, with wheels from pip's registry.

    Raises:
        UsageError: there is no lock file for the target.
        ProvisionFailed: pip cannot fetch the wheels, or one is not the pinned one.
    """
    directory = cache_directory() if cache is None else cache
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (directory / "lock").open("ab") as lock:
        # Two builders would remove each other's wheels.
        fcntl.flock(lock, fcntl.LOCK_EX)
        return find(target, directory) or _build(target, directory)


def _build(target: Target, directory: Path) -> Bundle:
    began = time.monotonic()
    own = own_files()
    path = directory / f"{target.python}-{target.arch}-{content_key(target, own)}.zip"
    with tempfile.TemporaryDirectory(prefix=".building-", dir=directory) as temporary:
        wheels = _wheels(target, directory, Path(temporary, "wheels"))
        draft = Path(temporary, "bundle.zip")
        unpacked = _pack(wheels, own, draft)
        content = draft.read_bytes()
        info = BundleInfo(
            target=target,
            version=skyplane_core.__version__,
            sha256=hashlib.sha256(content).hexdigest(),
            size=len(content),
            unpacked=unpacked,
            glibc=max(_glibc(wheel.name) for wheel in wheels),
            wheels=tuple(wheel.name for wheel in wheels),
        )
        note = Path(temporary, "bundle.json")
        note.write_bytes(msgspec.json.encode(info))
        draft.replace(path)
        note.replace(path.with_suffix(".json"))
    _forget_older(path)
    fields = {"target": str(target), "bytes": info.size, "seconds": round(time.monotonic() - began, 1)}
    log.info("bundle built", extra={"fields": fields})
    return Bundle(path, info)


def _wheels(target: Target, cache: Path, temporary: Path) -> list[Path]:
    """The pinned wheels, kept in the cache: other code of ours needs no registry to become another bundle."""
    lock = lock_of(target)
    pinned = set(_HASH.findall(lock))
    kept = cache / f"wheels-{target.python}-{target.arch}"
    if {_sha256(wheel) for wheel in kept.glob("*.whl")} != pinned:
        _fetch(target, lock, temporary)
        found = {_sha256(wheel): wheel.name for wheel in temporary.glob("*.whl")}
        if set(found) != pinned:
            wrong = ", ".join(name for sha256, name in found.items() if sha256 not in pinned) or "some are missing"
            raise ProvisionFailed("the wheels are not the pinned ones", where=str(target), why=wrong)
        shutil.rmtree(kept, ignore_errors=True)
        temporary.rename(kept)
    return sorted(kept.glob("*.whl"))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _fetch(target: Target, lock: str, directory: Path) -> None:
    directory.mkdir()
    requirements = directory.with_suffix(".txt")
    requirements.write_text(lock, encoding="ascii")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--require-hashes", "--dest", str(directory), "--requirement", str(requirements)]
    done = subprocess.run(
        [*command, *pip_target(target.python, target.arch)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        missing = "No module named pip" in done.stderr
        raise ProvisionFailed(
            f"the wheels of a gateway for {target} could not be fetched",
            why=done.stderr.strip()[-1000:],
            next_step=f"Run: {sys.executable} -m ensurepip"
            if missing
            else "Check that pip reaches a package registry.",
        )


def _pack(wheels: list[Path], own: dict[str, bytes], path: Path) -> int:
    """One archive of all; the same content gives the same bytes. Returns the size of what is in it."""
    files = dict(own)
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.infolist():
                if not member.is_dir() and _STRIPPED.search(member.filename) is None:
                    files[member.filename] = archive.read(member)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, data in sorted(files.items()):
            bundle.writestr(zipfile.ZipInfo(name, _EPOCH), data, zipfile.ZIP_DEFLATED)
    return sum(map(len, files.values()))


def _glibc(wheel: str) -> tuple[int, int]:
    """The oldest glibc that a wheel runs with, by its name; any, for one without compiled code."""
    versions = [
        _OLD_NAMES[match[3]] if match[3] else (int(match[1]), int(match[2]))
        for match in _TAG.finditer(wheel.rsplit("-", 1)[1])
    ]
    return min(versions, default=(2, 0))


def _forget_older(path: Path) -> None:
    """Remove bundles of earlier code for the same target."""
    target = path.name.rsplit("-", 1)[0]
    for other in path.parent.glob(f"{target}-*"):
        if other.stem != path.stem and other.suffix in {".zip", ".json"}:
            other.unlink(missing_ok=True)
