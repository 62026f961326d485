"""Keys as numbers, so that it can be guessed how far a few pages of a listing reach. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from skyplane_core.model import ObjectInfo

_DIGITS = 96
"""Characters that count. What lies behind them makes no difference for a guess."""


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

    def beyond(self, first: str, last: str, key: str, times: int) -> str | None:
        """A text as far behind ``key`` as ``times`` the way from ``first`` to ``last``; None if there is none."""
        way = self._number(last) - self._number(first)
        text = self._text(self._number(key) + times * way)
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
