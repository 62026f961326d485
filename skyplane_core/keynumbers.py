"""Keys as numbers, so that it can be guessed how far a few pages of a listing reach. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from skyplane_core.model import ObjectInfo

_DIGITS = 96
"""Characters that count. What lies behind them makes no difference for a guess."""

Reach: TypeAlias = tuple[str, str]
"""Two texts, the second behind the first."""


class KeyNumbers:
    """Reads what follows the first ``start`` characters of a key as digits: the characters seen, in their order."""

    def __init__(self, start: int) -> None:
        self._start = start
        self._characters: set[str] = set()
        self._alphabet: list[str] = []
        self._ranks: dict[str, int] = {}

    def learn(self, objects: Iterable[ObjectInfo]) -> None:
        """Take in the characters of keys."""
        new = set().union(*[info.key[self._start :] for info in objects]) - self._characters
        if new:
            self._characters |= new
            self._alphabet = sorted(self._characters)
            self._ranks = {character: rank for rank, character in enumerate(self._alphabet, 1)}

    def way(self, reach: Reach) -> int:
        """How far it is from end to end."""
        return self._number(reach[1]) - self._number(reach[0])

    def beyond(self, reach: Reach, key: str, times: int) -> str | None:
        """A text as far behind ``key`` as ``times`` the way of ``reach``; None if there is none."""
        text = self._text(self._number(key) + times * self.way(reach))
        if text is None:
            return None
        found = key[: self._start] + text
        return found if found > key else None

    def _number(self, key: str) -> int:
        base = len(self._alphabet) + 1
        number = 0
        for character in key[self._start : self._start + _DIGITS].ljust(_DIGITS, "\0"):
            number = number * base + self._ranks.get(character, 0)
        return number

    def _text(self, number: int) -> str | None:
        base = len(self._alphabet) + 1
        digits = []
        for _ in range(_DIGITS):
            number, digit = divmod(number, base)
            digits.append(digit)
        if number:
            return None
        text = []
        for digit in reversed(digits):
            if not digit:
                break
            text.append(self._alphabet[digit - 1])
        return "".join(text)
