"""A note of each dataplane that this command line has provisioned, so that one that was left behind can be found.

A record holds addresses and a fingerprint, no secret. Its owner holds a lock on it for as long as it lives: a record
that nobody locks is of a dataplane whose owner has died. It is written once the gateways' addresses are known; what a
crash before that leaves behind ends itself at its expiry.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from skyplane_core.errors import ProvisionFailed, TransferCancelled
from skyplane_core.provision.base import DataplaneReference

if TYPE_CHECKING:
    from skyplane_core.client import Dataplane


def directory() -> Path:
    """``$XDG_STATE_HOME/skyplane/dataplanes``, by default below ``~/.local/state``."""
    configured = Path(os.environ.get("XDG_STATE_HOME", ""))
    # The XDG specification: a relative path in the variable is to be ignored.
    base = configured if configured.is_absolute() else Path.home() / ".local" / "state"
    return base / "skyplane" / "dataplanes"


@contextlib.contextmanager
def provisioned(dataplane: Dataplane) -> Iterator[None]:
    """The gateways run inside, and are on record until they have been stopped.

    Raises:
        ProvisionFailed: they could not be started, or not be noted; nothing is left behind.
        TransferCancelled: interrupted while they were being stopped; some may be left behind.
    """
    with contextlib.ExitStack() as locks:
        path: Path | None = None
        try:
            dataplane.provision()
            path = _path(dataplane.reference.dataplane_id)
            locks.enter_context(_locked(path, msgspec.json.encode(dataplane.reference)))
            yield
        finally:
            try:
                dataplane.deprovision()
            except KeyboardInterrupt:
                raise TransferCancelled(
                    "interrupted while the gateways were being stopped",
                    next_step="Stop them with: skyplane deprovision",
                ) from None
            if path is not None:
                path.unlink(missing_ok=True)


class Record(msgspec.Struct, frozen=True):
    """One recorded dataplane. ``in_use``: its owner lives."""

    reference: DataplaneReference
    in_use: bool


def recorded() -> Iterator[Record]:
    """All records, by dataplane id. One that is being written, or was left half-written, is passed over."""
    for path in sorted(directory().glob("*.json")):
        with contextlib.suppress(FileNotFoundError, msgspec.DecodeError), path.open("rb") as file:
            in_use = not _lock(file.fileno())
            yield Record(msgspec.json.decode(file.read(), type=DataplaneReference), in_use)


def forget(dataplane_id: str) -> None:
    """Remove a record; one that is not there is no error."""
    _path(dataplane_id).unlink(missing_ok=True)


def _path(dataplane_id: str) -> Path:
    return directory() / f"{re.sub('[^A-Za-z0-9_-]', '_', dataplane_id)}.json"


@contextlib.contextmanager
def _locked(path: Path, content: bytes) -> Iterator[None]:
    with contextlib.ExitStack() as opened:
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            # Unbuffered: what cannot be written is not tried again when the file is closed.
            file = opened.enter_context(os.fdopen(fd, "wb", buffering=0))
            fcntl.flock(fd, fcntl.LOCK_EX)
            while content:
                content = content[file.write(content) :]
        except OSError as error:
            raise ProvisionFailed(
                "the gateways that were started cannot be noted, and have been stopped",
                where=str(path),
                why=error.strerror or str(error),
                next_step="Free some space there, or let XDG_STATE_HOME name another directory.",
            ) from error
        yield


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
