"""What processes hold in their memory."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path

import psutil

MIB = 1024 * 1024


def family(pid: int) -> list[psutil.Process]:
    """A process and its descendants."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def memory(pid: int) -> Iterator[bytes]:
    """Every readable private mapping of a process."""
    proc = Path(f"/proc/{pid}")
    with (proc / "maps").open(encoding="ascii", errors="replace") as maps, (proc / "mem").open("rb", 0) as mem:
        for line in maps:
            match = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
            if match is None:
                continue
            start, end = (int(text, 16) for text in match.groups())
            for offset in range(start, end, 16 * MIB):
                try:
                    mem.seek(offset)
                    yield mem.read(min(16 * MIB, end - offset))
                except (OSError, ValueError):
                    continue  # a mapping that went away, or that the kernel keeps to itself


def holds(process: psutil.Process, secret: bytes) -> bool:
    """Whether the secret is anywhere in the memory of a process."""
    return bool(held_of(process, [secret]))


def held_of(process: psutil.Process, secrets: Collection[bytes]) -> set[bytes]:
    """Which of the secrets are in the memory of a process."""
    return {secret for piece in memory(process.pid) for secret in secrets if secret in piece}
