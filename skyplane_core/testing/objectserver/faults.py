"""Faults on demand: which request goes wrong, and how. Deterministic for a given seed and order of requests."""

from __future__ import annotations

import dataclasses
import fnmatch
import random
import threading
from typing import Any

ACTIONS = {
    "status": "answer `status` with the error `code` (`retry_after` seconds as a header), do nothing else",
    "reset-before": "reset the connection before the operation is done",
    "reset-during": "reset after `at` bytes of body: of the request if it has one, else of the answer",
    "reset-after": "do the operation, then reset the connection instead of answering",
    "truncate": "end the answer's body, and the connection, after `at` bytes",
    "flip": "flip one bit of byte `at` of the answer's body",
    "flip-upload": "flip one bit of byte `at` of the request's body as it arrives",
    "flip-stored": "flip one bit of byte `at` of what the request has stored, after every checksum was computed",
    "slow": "move bodies at `rate` bytes a second",
    "stall": "wait `seconds` before the operation",
    "hold-before": "wait before the operation until the server is told to release()",
    "hold-during": "wait so after `at` bytes of body: of the request if it has one, else of the answer",
    "hold-after": "do the operation, then wait so before answering",
    "expire": "the credentials of this request are expired from now on",
}
"""What can go wrong, by name."""


@dataclasses.dataclass(frozen=True)
class Fault:
    """One rule. ``operation`` and ``key`` are shell patterns; operations are named as S3 names them, for all kinds.

    Args:
        operation: such as ``GetObject``, ``PutObject``, ``UploadPart``, ``CompleteMultipartUpload``, ``List*``, ``*``.
        action: one of :data:`ACTIONS`.
        key: which objects.
        nth: only on these matching requests, counted from 1; empty: on every one.
        probability: of those, on this share.
        times: at most so often; None: without end.
        status, code, retry_after: of ``status`` (a status of 200 sends the error document with 200, as S3 may do
            when an upload is completed).
        at: bytes, of ``reset-during``, ``hold-during``, ``truncate``, ``flip``, ``flip-upload`` and ``flip-stored``.
        rate: bytes per second, of ``slow``.
        seconds: of ``stall``.
    """

    operation: str
    action: str
    key: str = "*"
    nth: tuple[int, ...] = ()
    probability: float = 1.0
    times: int | None = None
    status: int = 503
    code: str = "SlowDown"
    retry_after: int | None = None
    at: int = 0
    rate: float = 1e6
    seconds: float = 1.0

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise ValueError(f"{self.action!r} is no fault; there are: {', '.join(ACTIONS)}")
        if isinstance(self.nth, int):
            object.__setattr__(self, "nth", (self.nth,))
        else:
            object.__setattr__(self, "nth", tuple(self.nth))


class Faults:
    """An ordered set of rules; the first that applies to a request decides. Thread-safe.

    ``seed`` makes probabilities repeatable.
    """

    def __init__(self, *rules: Fault, seed: int = 0) -> None:
        self.rules = rules
        self.seed = seed
        self._random = random.Random(seed)  # noqa: S311 - chance that can be repeated is the point
        self._seen = [0] * len(rules)
        self._fired = [0] * len(rules)
        self._lock = threading.Lock()

    def pick(self, operation: str, key: str) -> Fault | None:
        """The fault of this request, if any, with its operation and key instead of patterns. Counts the request."""
        if not self.rules:
            return None
        chosen: Fault | None = None
        with self._lock:
            for index, rule in enumerate(self.rules):
                if not (fnmatch.fnmatchcase(operation, rule.operation) and fnmatch.fnmatchcase(key, rule.key)):
                    continue
                self._seen[index] += 1
                if chosen is not None or (rule.nth and self._seen[index] not in rule.nth):
                    continue
                if rule.times is not None and self._fired[index] >= rule.times:
                    continue
                if rule.probability < 1.0 and self._random.random() >= rule.probability:
                    continue
                self._fired[index] += 1
                chosen = rule
        return dataclasses.replace(chosen, operation=operation, key=key) if chosen is not None else None

    @property
    def fired(self) -> list[int]:
        """How often each rule has struck, in their order."""
        with self._lock:
            return list(self._fired)

    def to_json(self) -> dict[str, Any]:
        """As plain values, to cross a process boundary."""
        return {"seed": self.seed, "rules": [dataclasses.asdict(rule) for rule in self.rules]}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Faults:
        """The inverse of :meth:`to_json`."""
        return cls(*(Fault(**rule) for rule in data["rules"]), seed=data["seed"])
