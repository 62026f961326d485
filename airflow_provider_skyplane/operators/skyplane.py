"""The general operator: copy or sync between any two stores that the engine knows."""

from __future__ import annotations

import enum
import itertools
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from airflow_provider_skyplane.choosing import NAMES, cap_of, keys_of, limits, name_rules
from airflow_provider_skyplane.compat import AirflowException, conf
from airflow_provider_skyplane.connections import check_connection
from airflow_provider_skyplane.ends import End, check_ends, destinations_of, is_later, is_listed, is_literal
from airflow_provider_skyplane.operators.base import SkyplaneBaseOperator, engine_errors
from airflow_provider_skyplane.planning import together
from airflow_provider_skyplane.rendered import refuse_nothing, truth
from skyplane_core.attribute_rules import rules_of
from skyplane_core.errors import NothingToTransfer
from skyplane_core.keys import rule
from skyplane_core.model import Compression
from skyplane_core.settings import check_sync, checked_filters
from skyplane_core.spec import Compare, Overwrite, ServerSideCopy, TransferOptions
from skyplane_core.store_options import StoreOptions
from skyplane_core.uri import Endpoint

if TYPE_CHECKING:
    from airflow_provider_skyplane.compat import Context
    from airflow_provider_skyplane.engine import FanOut, Location, Request
    from airflow_provider_skyplane.finished import Finished
    from skyplane_core.diff import Decision

_MODES = ("copy", "sync")
_LOGGED = 1000
"""Decisions of a dry run that are logged one by one."""

E = TypeVar("E", bound=enum.Enum)


class SkyplaneOperator(SkyplaneBaseOperator):
    """Copies an object or a tree, or brings a destination up to date with its source; or several destinations at once.

    Args:
        source: ``s3://bucket/key``, ``gs://bucket/key``, ``az://account/container/key``, ``r2://bucket/key``,
            ``cos://bucket/key``, ``hdfs://namenode/path`` or ``file:///path``. (templated)
        destination: the same; or a list of several, which get it side by side. One that has a connection, options or
            rules of its own is a dict: ``{"uri": "s3://b/k/", "conn_id": "aws_b", "options": {...},
            "attribute_rules": {...}}``; they go before those that are said for all. (templated)
        mode: ``copy`` writes every object, ``sync`` only those that are missing or differ.
        recursive: copy the tree below ``source``; otherwise the one object of that name. A sync always is, and
            refuses False.
        source_conn_id: connection for the source; default ``aws_default``, ``google_cloud_default`` or
            ``wasb_default``. (templated)
        destination_conn_id: the same for the destination. (templated)
        google_impersonation_chain: service accounts to impersonate on whichever ends are GCS. (templated)
        preserve_metadata: carry content headers and user metadata over.
        attribute_rules: what becomes of attributes, by the names of :class:`skyplane_core.model.AttributeRules`, such
            as ``{"storage_class": "NEARLINE", "metadata": {"team": "a"}}``.
        source_options: how the source is reached, by the names of :class:`skyplane_core.store_options.StoreOptions`,
            such as ``{"requester_pays": True}``. What says who asks, and where, goes before the connection's.
        destination_options: the same for the destination, and how what is written is encrypted.
        compare: when an object is unchanged: ``exact``, ``checksum``, ``size+mtime``, ``size``, ``name`` or ``always``.
            Default: ``exact`` for a sync, ``always`` for a copy.
        overwrite: ``if-changed``, ``always``, ``never`` or ``if-newer``.
        server_side_copy: ``auto`` (a store that holds both ends copies what it can by itself, which costs no egress) or
            ``never`` (see docs/server-side-copy.md).
        delete: in the end, delete what the source does not have, if all else succeeded; only for a sync.
        max_delete: delete nothing if it were more than this: a number of objects, or a share such as ``"10%"``.
            Default: 1000 objects, and half of what is there.
        include, exclude, include_regex, exclude_regex: patterns of names relative to the source, one or several. What
            is excluded stays excluded; of the rest, if anything is included, what that matches takes part. (templated)
        min_size, max_size: in bytes, or as ``"10MiB"``.
        min_age, max_age: in seconds, as ``"7d"``, or a timedelta.
        manifest: only these objects: whole keys, or the path of a file with one a line (see docs/sync.md). (templated)
        max_objects, max_bytes: stop selecting after so much; what is left is not selected.
        dry_run_only: move nothing; log what would become of each object, and return the totals.

    The other arguments are those of :class:`SkyplaneBaseOperator`. Returns a dict that is small whatever was moved:
    ``transfer_id``, ``objects_copied``, ``objects_skipped``, ``objects_deleted``, ``bytes_copied``, ``seconds``,
    ``stopped_at`` (the limit that ended the selection, or empty) and ``receipt``, the URI of the list of everything.
    With a list of destinations numbers are sums, and ``destinations`` has the same of each, with its URI as
    ``destination``. One that fails does not stop the others; the task fails when all have ended, and says which.
    Of a transfer that failed it is under the XCom key ``skyplane_failed``, with ``objects_failed``, the first
    ``failures`` and ``error``.

    With ``dry_run_only`` it returns what :class:`.plan.SkyplanePlanOperator` does.

    Raises:
        UsageError: at construction, for literal URIs that cannot be parsed (InvalidURI) or cannot be right together;
            templated ones, and what depends on a worker's disk, are checked at run time.
        ValueError: at construction, for any other argument that cannot be right.
    """

    template_fields: Sequence[str] = (
        "source",
        "destination",
        "source_conn_id",
        "destination_conn_id",
        "skyplane_conn_id",
        "google_impersonation_chain",
        "receipt_url",
        "receipt_path",
        "receipt_conn_id",
        "report_url",
        "report_conn_id",
        *NAMES,
        "manifest",
    )
    ui_color = "#e09411"

    def __init__(
        self,
        *,
        source: str,
        destination: str | Sequence[str | Mapping[str, Any]],
        mode: str = "copy",
        recursive: bool | None = None,
        source_conn_id: str | None = None,
        destination_conn_id: str | None = None,
        google_impersonation_chain: str | Sequence[str] | None = None,
        preserve_metadata: bool = True,
        attribute_rules: Mapping[str, Any] | None = None,
        source_options: Mapping[str, Any] | None = None,
        destination_options: Mapping[str, Any] | None = None,
        compare: str | None = None,
        overwrite: str = "if-changed",
        server_side_copy: str = "auto",
        delete: bool = False,
        max_delete: int | str | None = None,
        include: str | Sequence[str] | None = None,
        exclude: str | Sequence[str] | None = None,
        include_regex: str | Sequence[str] | None = None,
        exclude_regex: str | Sequence[str] | None = None,
        min_size: int | str | None = None,
        max_size: int | str | None = None,
        min_age: float | str | timedelta | None = None,
        max_age: float | str | timedelta | None = None,
        manifest: str | Sequence[str] | None = None,
        max_objects: int | None = None,
        max_bytes: int | str | None = None,
        dry_run_only: bool = False,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(deferrable=deferrable, **kwargs)
        if mode not in _MODES:
            raise ValueError(f"Invalid value for mode: {mode!r}. Expected one of {', '.join(_MODES)}")
        if mode == "sync" and recursive is False:
            raise ValueError("Invalid value for recursive: a sync always is. Leave it out, or use mode='copy'")
        recursive = mode == "sync" or (recursive is not None and truth("recursive", recursive))
        self.attribute_rules = dict(attribute_rules or {})
        self.source_options = dict(source_options or {})
        self.destination_options = dict(destination_options or {})
        self.source = source
        self.destination = destination
        self.mode = mode
        self.recursive = recursive
        self.source_conn_id = source_conn_id
        self.destination_conn_id = destination_conn_id
        self.google_impersonation_chain = google_impersonation_chain
        self.preserve_metadata = truth("preserve_metadata", preserve_metadata)
        self.include = include
        self.exclude = exclude
        self.include_regex = include_regex
        self.exclude_regex = exclude_regex
        self.manifest = manifest
        self.dry_run_only = truth("dry_run_only", dry_run_only)
        self._compare = _member(Compare, "compare", compare or ("exact" if mode == "sync" else "always"))
        self._overwrite = _member(Overwrite, "overwrite", overwrite)
        self._server_side_copy = _member(ServerSideCopy, "server_side_copy", server_side_copy)
        self._limits = limits(
            {
                "min_size": min_size,
                "max_size": max_size,
                "min_age": min_age,
                "max_age": max_age,
                "max_objects": max_objects,
                "max_bytes": max_bytes,
            }
        )
        self._max_delete = cap_of(max_delete)
        self.delete = truth("delete", delete)
        if delete and mode != "sync":
            raise ValueError("Invalid value for delete: only a sync deletes. Use mode='sync'")
        self._check_ends(rendered=False)
        self._check_choice(manifest)
        self._refuse_nothing()

    def _refuse_nothing(self) -> None:
        own = {name: getattr(self, name) for name in SkyplaneOperator.template_fields}
        refuse_nothing(own, texts=(*NAMES, "manifest"))

    def _ends(self) -> tuple[End, list[End] | None]:
        """Source and destinations; None instead of those that only a run knows."""
        source = End("source", self.source, "source_conn_id", self.source_conn_id, self.source_options)
        return source, destinations_of(
            self.destination, self.destination_conn_id, self.destination_options, self.attribute_rules
        )

    def _check_ends(self, *, rendered: bool) -> None:
        source, destinations = self._ends()
        check_ends(source, destinations or [], recursive=self.recursive, rendered=rendered)
        for rules in (self.attribute_rules, *(end.rules for end in destinations or ())):
            rules_of(rules)
        several = len(destinations or ()) > 1
        if several and self.receipt_url and is_literal(self.receipt_url) and not self.receipt_url.endswith("/"):
            raise ValueError(
                f"Invalid value for receipt_url: {self.receipt_url!r} names one object, and each destination has its "
                "own receipt. Name a prefix that ends in /"
            )

    def _check_choice(self, manifest: str | Sequence[str] | None) -> None:
        """Refuse what contradicts itself, as far as it is known before templates are rendered."""
        given = self._patterns()
        literal = all(is_literal(part) for value in given.values() for part in _several(value))
        keys = ("key",) if manifest is not None else None
        filters = msgspec.structs.replace(self._limits, rules=name_rules(given) if literal else (), keys=keys)
        selection, mapping = rule("", "", recursive=True) if self.recursive else rule("key", "", recursive=False)
        selection = msgspec.structs.replace(selection, filters=checked_filters(filters))
        check_sync(selection, mapping, self._options(self.attribute_rules))

    def _patterns(self) -> dict[str, str | Sequence[str] | None]:
        return {name: getattr(self, name) for name in NAMES}

    def _options(self, rules: Mapping[str, Any]) -> TransferOptions:
        return TransferOptions(
            compare=self._compare,
            compression=Compression(self.compression),
            keep_attributes=self.preserve_metadata,
            overwrite=self._overwrite,
            server_side_copy=self._server_side_copy,
            delete=self.delete,
            max_delete=self._max_delete,
            attributes=rules_of(rules),
        )

    def execute(self, context: Context) -> dict[str, Any]:
        """Move everything and return the summary, or defer and let execute_complete do so."""
        try:
            if self.dry_run_only:
                return self._dry_run()
            doing = "Syncing" if self.mode == "sync" else "Copying"
            self.log.info("%s %s to %s.", doing, self.source, ", ".join(map(str, self._names())))
            result: dict[str, Any] = self._transfer(context)
        except NothingToTransfer as error:
            raise AirflowException(str(error)) from error
        return result

    def _dry_run(self) -> dict[str, Any]:
        decided = itertools.count()

        def tell(decision: Decision) -> None:
            if next(decided) < _LOGGED:
                self.log.info("%s %s (%s)", decision.action.value, decision.destination_key, decision.reason)

        with engine_errors():
            each = [found.summary() for found in self.hook.engine.outlines(self._request(), tell)]
        summary = together(each, self._names()) if is_listed(self.destination) else each[0]
        self.log.info("Dry run: %s", summary)
        return summary

    def _request(self) -> Request | FanOut:
        from airflow_provider_skyplane.engine import FanOut

        self._refuse_nothing()
        self._check_ends(rendered=True)
        source, destinations = self._ends()
        keys = keys_of(self.manifest)
        requests = tuple(self._one(source, end, keys) for end in destinations or ())
        return requests[0] if len(requests) == 1 else FanOut(requests)

    def _one(self, source: End, destination: End, keys: tuple[str, ...] | None) -> Request:
        from airflow_provider_skyplane.engine import Request

        return Request(
            source=lambda: self._place(source),
            destination=lambda: self._place(destination),
            recursive=self.recursive,
            options=self._options(destination.rules),
            filters=msgspec.structs.replace(self._limits, rules=name_rules(self._patterns()), keys=keys),
            receipt=self._receipt(*_receipts(source, destination), self.google_impersonation_chain),
            mode=self.mode,
        )

    def _place(self, end: End) -> Location | str:
        check_connection(end)
        return self.hook.place(
            end.uri,
            end.conn_id,
            impersonation_chain=self.google_impersonation_chain,
            options=StoreOptions.of(end.options),
            directory=end.written and self.recursive,
            written=end.written,
            copies_from=self.source if end.written else "",
        )

    def _names(self) -> list[str]:
        return [end.uri for end in self._ends()[1] or ()]

    def _named(self, finished: Finished) -> Finished:
        return finished.named(self._names()) if is_listed(self.destination) else finished

    def _lineage_uris(self) -> tuple[Sequence[str], Sequence[str]]:
        source = () if is_later(self.source) else (self.source,)
        return source, () if self.dry_run_only else self._names()

    def _result(self, finished: Finished) -> dict[str, Any]:
        for line in finished.success_lines():
            self.log.info("Done: %s", line)
        return finished.summary()


class SkyplaneSyncOperator(SkyplaneOperator):
    """:class:`SkyplaneOperator` with ``mode="sync"``: brings destinations up to date with their source.

    Takes all of its arguments but ``mode`` and ``recursive``, with the same defaults.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"mode": "sync", **kwargs})
        if self.mode != "sync":
            raise ValueError(f"Invalid value for mode: {self.mode!r}. This operator syncs; leave it out")


def _member(kind: type[E], name: str, value: str) -> E:
    try:
        return kind(value)
    except ValueError as error:
        known = ", ".join(member.value for member in kind)
        raise ValueError(f"Invalid value for {name}: {value!r}. Expected one of {known}") from error


def _several(value: Any) -> Sequence[Any]:
    return (value,) if isinstance(value, str) or is_later(value) else value or ()


def _receipts(source: End, destination: End) -> tuple[str, dict[str, str | None]]:
    """The destination's bucket, or its own tree, and the connections at hand by the kind of their stores."""
    here, there = source.endpoint, destination.endpoint
    in_tree = there.kind in ("local", "hdfs")
    bucket = (there if in_tree else Endpoint(there.kind, there.bucket, "")).uri.rstrip("/")
    return bucket, {here.kind: source.conn_id, there.kind: destination.conn_id}
