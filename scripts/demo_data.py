"""The demo's data set: the same objects for the same seed, made up one at a time."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
from collections.abc import Iterator

MIB = 1024 * 1024
SEED = 20260401
TEXT_BLOCK = 4 * MIB

ODD_KEYS = (
    "odd/empty",
    "odd/folder-marker/",
    "odd/with spaces and  two",
    "odd/naïve-Ünïcode-日本語-🚚.txt",
    "odd/100%25-and-%zz%",
    "odd/a+b=c&d?e#f;g",
    "odd//double//slashes",
    "/leading/slash",
    "odd/" + "k" * 996,
)
"""Keys that something on the way likes to change, the last one 1000 bytes long."""


@dataclasses.dataclass(frozen=True)
class Item:
    """One object to be. ``text`` says whether its bytes look like logs, or like something compressed already."""

    key: str
    size: int
    text: bool

    def body(self) -> bytes:
        """The object's bytes, the same every time."""
        generator = random.Random(f"{SEED}/{self.key}")
        return _text(generator, self.size) if self.text else generator.randbytes(self.size)


def _lines(generator: random.Random) -> Iterator[bytes]:
    words = ("checkout", "search", "login", "upload", "export", "refund", "render", "index")
    clock = 1_767_225_600_000
    while True:
        clock += generator.randrange(1, 900)
        record = {
            "time_ms": clock,
            "service": generator.choice(words),
            "user": f"u{generator.randrange(10**7):07d}",
            "status": generator.choice((200, 200, 200, 201, 304, 404, 500)),
            "took_ms": round(generator.expovariate(0.02), 3),
            "trace": f"{generator.getrandbits(64):016x}",
        }
        yield json.dumps(record).encode() + b"\n"


def _text(generator: random.Random, size: int) -> bytes:
    """JSON lines. They repeat after 4 MiB, which no compressor with a window of 64 KiB can notice."""
    lines = _lines(generator)
    block = bytearray()
    while len(block) < min(size, TEXT_BLOCK):
        block += next(lines)
    return bytes((block * (size // max(1, len(block)) + 1))[:size])


def items(small: int, medium: int, large: int) -> Iterator[Item]:
    """The data set: ``small`` objects of up to 16 KiB, ``medium`` of up to 1 MiB, ``large`` of 96 MiB, and odd keys."""
    sizes = random.Random(SEED)
    for number in range(small):
        yield Item(f"events/2026/{number % 30 + 1:02d}/part-{number:05d}.json", sizes.randrange(200, 16_384), text=True)
    for number in range(medium):
        yield Item(f"images/{number:04d}.jpg", sizes.randrange(64 * 1024, MIB), text=False)
    for number in range(large):
        text = number % 2 == 0
        yield Item(f"exports/{number:02d}.{'jsonl' if text else 'bin'}", 96 * MIB, text=text)
    for key in ODD_KEYS:
        empty = key.endswith(("/", "empty"))
        yield Item(key, 0 if empty else 1000, text=True)


def sha256(body: bytes) -> str:
    """What the verification compares with."""
    return hashlib.sha256(body).hexdigest()
