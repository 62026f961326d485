"""A listing that comes in pages goes on, and ends, whatever a store says."""

from __future__ import annotations

from typing import Final, NamedTuple

from skyplane_core.errors import StoreUnavailable
from skyplane_core.model import ObjectInfo


class Page(NamedTuple):
    """Objects of a listing, one after the other. ``more``: there may be something behind the last one."""

    objects: list[ObjectInfo]
    more: bool


MOST_EMPTY_PAGES: Final = 4000
"""Pages without anything on them, one after the other. Stores give such where many versions or delete markers lie
between two objects; with a thousand keys looked at for each, these are four millions."""


class Pages:
    """Watches one listing. ``where`` is for messages."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._last: object = None
        self._empty = 0

    def turn(self, token: object, found: int) -> None:
        """To be called before the page that ``token`` names is asked for.

        Args:
            found: how many things were on the page before it.

        Raises:
            StoreUnavailable: the store names the same page again, or pages of nothing without an end.
        """
        self._empty = 0 if found else self._empty + 1
        if token == self._last or self._empty > MOST_EMPTY_PAGES:
            why = "it names the same page again" if token == self._last else f"{self._empty} pages hold nothing"
            raise StoreUnavailable("the listing does not go on", where=self._where, why=why)
        self._last = token
