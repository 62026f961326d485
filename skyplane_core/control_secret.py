"""The control secret of the command line: one line in a file that only its owner can read."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from skyplane_core.errors import UsageError

_MAX_BYTES = 4096


def default_path() -> Path:
    """``$XDG_CONFIG_HOME/skyplane/control-secret``, by default below ``~/.config``."""
    configured = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    # The XDG specification: a relative path in the variable is to be ignored.
    base = configured if configured.is_absolute() else Path.home() / ".config"
    return base / "skyplane" / "control-secret"


def control_secret(path: Path | None = None) -> bytes:
    """The secret in ``path``, which is made (0600, with a 0700 directory) if it is not there.

    The secret is the file's text without surrounding white space, so that the same text in an Airflow connection is
    the same secret. Concurrent first calls agree on one secret.

    Raises:
        UsageError: the file cannot be read or made, is not a regular file of this user, may be read by others, or is
            empty.
    """
    path = default_path() if path is None else path
    try:
        if not path.exists():
            _create(path)
        return _read(path)
    except OSError as error:
        raise UsageError(
            "the file of the control secret cannot be read or made",
            where=str(path),
            why=error.strerror or str(error),
            next_step="Let XDG_CONFIG_HOME name a directory in which this user may write.",
        ) from error


def _create(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            # A link appears complete or not at all, and unlike a rename it never replaces a secret already in use.
            os.link(draft, path)
        except FileExistsError:
            return
    finally:
        draft.unlink()


def _read(path: Path) -> bytes:
    # Non-blocking, because a FIFO in this place would otherwise wait for a writer for ever.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(fd, "rb") as file:
        info = os.fstat(file.fileno())
        if not stat.S_ISREG(info.st_mode):
            raise UsageError("the control secret is not a regular file", where=str(path))
        if info.st_uid != os.geteuid():
            raise UsageError("the control secret belongs to another user", where=str(path))
        if info.st_mode & 0o077:
            raise UsageError(
                f"the control secret can be read by others (mode {stat.S_IMODE(info.st_mode):04o})",
                where=str(path),
                next_step=f"Run: chmod 600 {path}; if others may have read it, delete it and start new dataplanes.",
            )
        content = file.read(_MAX_BYTES + 1).strip()
    if not content or len(content) > _MAX_BYTES:
        raise UsageError("the control secret is empty or far too long", where=str(path))
    return content
