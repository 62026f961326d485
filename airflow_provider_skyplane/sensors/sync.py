"""A sensor that waits until a sync has something to do, or until it has nothing to do any more."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_skyplane.choosing import NAMES
from airflow_provider_skyplane.compat import PokeReturnValue
from airflow_provider_skyplane.ends import is_literal
from airflow_provider_skyplane.question import Question
from airflow_provider_skyplane.sensors.base import SkyplaneBaseSensor
from skyplane_core.uri import parse

if TYPE_CHECKING:
    from airflow.triggers.base import BaseTrigger

    from airflow_provider_skyplane.compat import Context
    from airflow_provider_skyplane.pace import Pace


class SkyplaneSyncSensor(SkyplaneBaseSensor):
    """Waits until source and destination agree, or until something is there to move.

    It compares listings as :class:`SkyplaneSyncOperator` with the same arguments would, and stops at the first
    difference, so that a look costs a full listing of both sides only where they agree. An empty source is neither work
    nor in sync. What cannot be copied counts as a difference: a sync names it.

    Args:
        wait_for: ``work`` or ``in_sync``.

    These mean what they mean for :class:`SkyplaneSyncOperator`: ``source``, ``destination``, ``source_conn_id``,
    ``destination_conn_id``, ``google_impersonation_chain``, ``source_options``, ``destination_options``, ``compare``,
    ``overwrite``, ``delete``, ``include``, ``exclude``, ``include_regex``, ``exclude_regex``, ``min_size``,
    ``max_size``, ``min_age``, ``max_age``.

    The other arguments are those of :class:`SkyplaneBaseSensor`. Returns, for ``work``, the first difference:
    ``action`` (``copy``, ``delete`` or ``refuse``), ``key`` at the destination, ``size``, ``reason``; for ``in_sync``
    an empty dict.

    Raises:
        UsageError: at construction, for literal URIs and patterns that cannot be right.
        ValueError: at construction, for any other argument that cannot be right.
    """

    template_fields: Sequence[str] = (
        "source",
        "destination",
        "source_conn_id",
        "destination_conn_id",
        "google_impersonation_chain",
        *NAMES,
    )
    ui_color = "#f3d9a4"

    def __init__(
        self,
        *,
        source: str,
        destination: str,
        wait_for: str,
        source_conn_id: str | None = None,
        destination_conn_id: str | None = None,
        google_impersonation_chain: str | Sequence[str] | None = None,
        source_options: Mapping[str, Any] | None = None,
        destination_options: Mapping[str, Any] | None = None,
        compare: str = "exact",
        overwrite: str = "if-changed",
        delete: bool = False,
        include: str | Sequence[str] | None = None,
        exclude: str | Sequence[str] | None = None,
        include_regex: str | Sequence[str] | None = None,
        exclude_regex: str | Sequence[str] | None = None,
        min_size: int | str | None = None,
        max_size: int | str | None = None,
        min_age: float | str | timedelta | None = None,
        max_age: float | str | timedelta | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.source = source
        self.destination = destination
        self.wait_for = wait_for
        self.source_conn_id = source_conn_id
        self.destination_conn_id = destination_conn_id
        self.google_impersonation_chain = google_impersonation_chain
        self.source_options = dict(source_options or {})
        self.destination_options = dict(destination_options or {})
        self.compare = compare
        self.overwrite = overwrite
        self.delete = delete
        self.include = include
        self.exclude = exclude
        self.include_regex = include_regex
        self.exclude_regex = exclude_regex
        self._limits: dict[str, Any] = {
            "min_size": min_size,
            "max_size": max_size,
            "min_age": min_age,
            "max_age": max_age,
        }
        self._check()

    def _check(self) -> None:
        """Refuse what cannot be right, as far as it is known before templates are rendered."""
        question = self._question()
        patterns = [getattr(self, name) or () for name in NAMES]
        texts = [text for given in patterns for text in ((given,) if isinstance(given, str) else given)]
        if all(map(is_literal, (self.source, self.destination, *texts))):
            question.check()
            return
        for uri in filter(is_literal, (self.source, self.destination)):
            parse(uri)

    def _question(self) -> Question:
        return Question.of(
            source=self.source,
            destination=self.destination,
            wait_for=self.wait_for,
            source_conn_id=self.source_conn_id,
            destination_conn_id=self.destination_conn_id,
            google_impersonation_chain=self.google_impersonation_chain,
            compare=self.compare,
            overwrite=self.overwrite,
            delete=self.delete,
            source_options=self.source_options,
            destination_options=self.destination_options,
            **{name: getattr(self, name) for name in NAMES},
            **self._limits,
        )

    def poke(self, context: Context) -> PokeReturnValue:  # noqa: ARG002  # Airflow's signature
        """Whether the wait is over; then the value tells what was found.

        Raises:
            SkyplaneError: it cannot be told.
        """
        found = self._told["found"] if self._told is not None else self._question().answer()
        if found is None:
            return PokeReturnValue(is_done=False)
        self.log.info("Found: %s", found or "nothing to move")
        return PokeReturnValue(is_done=True, xcom_value=found)

    def _trigger(self, pace: Pace) -> BaseTrigger:
        from airflow_provider_skyplane.triggers.sync_sensor import SkyplaneSyncTrigger

        return SkyplaneSyncTrigger(question=dataclasses.asdict(self._question()), pace=dataclasses.asdict(pace))
