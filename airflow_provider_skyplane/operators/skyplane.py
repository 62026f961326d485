"""The general operator: copy or sync between any two stores that the engine knows."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_skyplane.compat import AirflowException, conf
from airflow_provider_skyplane.operators.base import SkyplaneBaseOperator
from skyplane_core.errors import InvalidURI, NothingToTransfer
from skyplane_core.model import Compression
from skyplane_core.spec import Compare, TransferOptions
from skyplane_core.uri import parse

if TYPE_CHECKING:
    from airflow_provider_skyplane.compat import Context
    from airflow_provider_skyplane.engine import Request
    from airflow_provider_skyplane.finished import Finished

_MODES = ("copy", "sync")


class SkyplaneOperator(SkyplaneBaseOperator):
    """Copies an object or a tree, or brings a destination up to date with its source.

    Args:
        source: ``s3://bucket/key``, ``gs://bucket/key`` or ``file:///path``. (templated)
        destination: the same. (templated)
        mode: ``copy`` writes every object, ``sync`` only those that are missing or differ. Nothing is ever deleted.
        recursive: copy the tree below ``source``; otherwise the one object of that name. A sync always is.
        source_conn_id: connection for the source; default ``aws_default`` or ``google_cloud_default``. (templated)
        destination_conn_id: the same for the destination. (templated)
        google_impersonation_chain: service accounts to impersonate on whichever ends are GCS. (templated)
        preserve_metadata: carry content headers and user metadata over.

    The other arguments are those of :class:`SkyplaneBaseOperator`. Returns a small dict: ``transfer_id``,
    ``objects_copied``, ``objects_skipped``, ``bytes_copied``, ``seconds`` and ``receipt``, the URI of the list of
    everything that was moved.

    Raises:
        InvalidURI: at construction, for a literal URI that cannot be parsed; a templated one is checked at run time.
        ValueError: at construction, for any other argument that cannot be right.
    """

    template_fields: Sequence[str] = (
        "source",
        "destination",
        "source_conn_id",
        "destination_conn_id",
        "skyplane_conn_id",
        "google_impersonation_chain",
        "receipt_path",
    )
    ui_color = "#e09411"

    def __init__(
        self,
        *,
        source: str,
        destination: str,
        mode: str = "copy",
        recursive: bool = False,
        source_conn_id: str | None = None,
        destination_conn_id: str | None = None,
        google_impersonation_chain: str | Sequence[str] | None = None,
        preserve_metadata: bool = True,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(deferrable=deferrable, **kwargs)
        if mode not in _MODES:
            raise ValueError(f"Invalid value for mode: {mode!r}. Expected one of {', '.join(_MODES)}")
        for uri in filter(_is_literal, (source, destination)):
            parse(uri)
        self.source = source
        self.destination = destination
        self.mode = mode
        self.recursive = recursive
        self.source_conn_id = source_conn_id
        self.destination_conn_id = destination_conn_id
        self.google_impersonation_chain = google_impersonation_chain
        self.preserve_metadata = preserve_metadata

    def execute(self, context: Context) -> dict[str, Any]:
        """Move everything and return the summary, or defer and let execute_complete do so."""
        try:
            result: dict[str, Any] = self._transfer(context)
        except NothingToTransfer as error:
            raise AirflowException(str(error)) from error
        return result

    def _request(self) -> Request:
        from airflow_provider_skyplane.engine import Request

        for uri in (self.source, self.destination):
            if not uri:
                raise InvalidURI("the URI is empty", next_step="Check what the template was rendered to.")
            parse(uri)
        return Request(
            source=lambda: self._place(self.source, self.source_conn_id),
            destination=lambda: self._place(self.destination, self.destination_conn_id),
            recursive=self.recursive or self.mode == "sync",
            options=TransferOptions(
                compare=Compare.EXACT if self.mode == "sync" else Compare.ALWAYS,
                compression=Compression(self.compression),
                keep_attributes=self.preserve_metadata,
            ),
            state=self.receipt_path,
        )

    def _place(self, uri: str, conn_id: str | None) -> Any:
        return self.hook.place(uri, conn_id, impersonation_chain=self.google_impersonation_chain)

    def _result(self, finished: Finished) -> dict[str, Any]:
        summary = dataclasses.asdict(finished)
        for only_for_failures in ("objects_failed", "failures", "error"):
            del summary[only_for_failures]
        return summary


def _is_literal(uri: object) -> bool:
    """Whether the text is what it will be at run time: no template, and not another task's output."""
    return isinstance(uri, str) and "{{" not in uri and "{%" not in uri
