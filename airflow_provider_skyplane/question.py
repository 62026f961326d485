"""The question whether a sync has anything to do: what an operator is given for it, as plain values."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_skyplane.choosing import NAMES, limits, name_rules
from airflow_provider_skyplane.connections import check_connection
from airflow_provider_skyplane.ends import End, check_ends
from airflow_provider_skyplane.hooks.skyplane import SkyplaneHook
from airflow_provider_skyplane.rendered import refuse_nothing
from skyplane_core.compare import rule_of
from skyplane_core.errors import NothingToTransfer, UsageError
from skyplane_core.filters import Filters
from skyplane_core.keys import rule
from skyplane_core.settings import check_sync, checked_filters
from skyplane_core.spec import Compare, Overwrite, TransferOptions
from skyplane_core.store_options import StoreOptions

if TYPE_CHECKING:
    from airflow_provider_skyplane.engine import Location, Request

WORK = "work"
IN_SYNC = "in_sync"
_CHOICES = {
    "wait_for": (WORK, IN_SYNC),
    "compare": tuple(member.value for member in Compare),
    "overwrite": tuple(member.value for member in Overwrite),
}


@dataclasses.dataclass(frozen=True)
class Question:
    """Fits into a trigger's row: plain JSON, with the names of connections in it and no secret.

    The fields are the arguments of :class:`SkyplaneSyncOperator`; ``filters`` are :class:`Filters` as plain values.
    """

    source: str
    destination: str
    wait_for: str
    source_conn_id: str | None = None
    destination_conn_id: str | None = None
    google_impersonation_chain: str | Sequence[str] | None = None
    compare: str = "exact"
    overwrite: str = "if-changed"
    delete: bool = False
    filters: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    source_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    destination_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(
        cls,
        *,
        min_size: int | str | None = None,
        max_size: int | str | None = None,
        min_age: float | str | timedelta | None = None,
        max_age: float | str | timedelta | None = None,
        **given: Any,
    ) -> Question:
        """The question that arguments make; besides the fields they are those about names, sizes and ages.

        Raises:
            ValueError: one of them cannot be right.
        """
        sizes = limits({"min_size": min_size, "max_size": max_size, "min_age": min_age, "max_age": max_age})
        rules = name_rules({name: given.pop(name, None) for name in NAMES})
        for name, known in _CHOICES.items():
            if given.get(name, known[0]) not in known:
                raise ValueError(f"Invalid value for {name}: {given[name]!r}. Expected one of {', '.join(known)}")
        return cls(filters=msgspec.to_builtins(msgspec.structs.replace(sizes, rules=rules)), **given)

    def check(self) -> None:
        """Refuse what contradicts itself. Asks no store and no connection.

        Raises:
            UsageError: it names what.
        """
        named = ("source", "destination", "source_conn_id", "destination_conn_id", "google_impersonation_chain")
        refuse_nothing({name: getattr(self, name) for name in named})
        source, destination = self._ends
        check_ends(source, [destination], recursive=True, rendered=True)
        selection, mapping = rule("", "", recursive=True)
        selection = msgspec.structs.replace(selection, filters=checked_filters(self._filters))
        check_sync(selection, mapping, self._options)
        if rule_of(self._options).compare is Compare.ALWAYS:
            raise UsageError(
                "with 'always' source and destination never agree",
                where=f"{self.source} -> {self.destination}",
                next_step="Let compare and overwrite say when an object is unchanged.",
            )

    @property
    def _ends(self) -> tuple[End, End]:
        """Source and destination."""
        return (
            End("source", self.source, "source_conn_id", self.source_conn_id, self.source_options),
            End(
                "destination",
                self.destination,
                "destination_conn_id",
                self.destination_conn_id,
                self.destination_options,
            ),
        )

    @property
    def _filters(self) -> Filters:
        return msgspec.convert(dict(self.filters), Filters)

    @property
    def _options(self) -> TransferOptions:
        return TransferOptions(compare=Compare(self.compare), overwrite=Overwrite(self.overwrite), delete=self.delete)

    def answer(self, *, gently: bool = False, stopped: Callable[[], bool] = lambda: False) -> dict[str, Any] | None:
        """What ends the wait, as plain JSON: the first difference, or nothing more than that there is none. Else None.

        An empty source ends no wait: most likely it has not been written yet.

        Args:
            gently, stopped: as for :func:`skyplane_core.difference.first_difference`.

        Raises:
            SkyplaneError: it cannot be told.
            AirflowException: a connection is missing, or of no use.
        """
        try:
            found = SkyplaneHook(None).engine.first_difference(self._request(), gently=gently, stopped=stopped)
        except NothingToTransfer:
            return None
        if self.wait_for == IN_SYNC:
            return {} if found is None else None
        return (
            None
            if found is None
            else {
                "action": found.action.value,
                "key": found.destination_key,
                "size": found.source.size,
                "reason": found.reason,
            }
        )

    def _request(self) -> Request:
        from airflow_provider_skyplane.engine import Request

        self.check()
        source, destination = self._ends
        return Request(
            source=lambda: self._place(source),
            destination=lambda: self._place(destination),
            options=self._options,
            filters=self._filters,
            mode="sync",
        )

    def _place(self, end: End) -> Location | str:
        check_connection(end)
        return SkyplaneHook(None).place(
            end.uri,
            end.conn_id,
            impersonation_chain=self.google_impersonation_chain,
            options=StoreOptions.of(end.options),
            directory=end.written,
            written=end.written,
        )
