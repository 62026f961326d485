"""The general operator: copy or sync between any two stores that the engine knows."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from airflow_provider_skyplane.choosing import NAMES, cap_of, keys_of, limits, name_rules
from airflow_provider_skyplane.compat import AirflowException, conf
from airflow_provider_skyplane.operators.base import SkyplaneBaseOperator, engine_errors, is_literal
from skyplane_core.attribute_rules import rules_of
from skyplane_core.errors import InvalidURI, NothingToTransfer, UsageError
from skyplane_core.keys import map_key, rule
from skyplane_core.locations import Location, check_apart
from skyplane_core.model import Compression, StoreConfig
from skyplane_core.settings import check_sync, checked_filters
from skyplane_core.spec import Compare, Overwrite, ServerSideCopy, TransferOptions
from skyplane_core.store_options import StoreOptions
from skyplane_core.uri import Endpoint, locate, parse

if TYPE_CHECKING:
    from airflow_provider_skyplane.compat import Context
    from airflow_provider_skyplane.engine import Request
    from airflow_provider_skyplane.finished import Finished

_MODES = ("copy", "sync")
_LOGGED = 1000
"""Decisions of a dry run that are logged one by one."""

E = TypeVar("E", bound=enum.Enum)


class SkyplaneOperator(SkyplaneBaseOperator):
    """Copies an object or a tree, or brings a destination up to date with its source.

    Args:
        source: ``s3://bucket/key``, ``gs://bucket/key``, ``az://account/container/key``, ``r2://bucket/key``,
            ``cos://bucket/key`` or ``file:///path``.
            (templated)
        destination: the same. (templated)
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
    Of a transfer that failed it is under the XCom key ``skyplane_failed``, with ``objects_failed``, the first
    ``failures`` and ``error``. With ``dry_run_only``: ``copy``, ``skip``, ``refuse``, ``delete`` (numbers of objects),
    ``bytes``, ``bytes_deleted``, ``stopped_at``, ``refused`` (why nothing would be deleted, or empty), and the cost by
    list prices (see docs/costs.md): ``usd`` (None if a price is not known), ``usd_known``, ``usd_month``, ``unknown``.

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
        *NAMES,
        "manifest",
    )
    ui_color = "#e09411"

    def __init__(
        self,
        *,
        source: str,
        destination: str,
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
        recursive = bool(recursive) or mode == "sync"
        self.attribute_rules = dict(attribute_rules or {})
        rules_of(self.attribute_rules)
        self.source_options = dict(source_options or {})
        self.destination_options = dict(destination_options or {})
        here, there = (parse(uri) if is_literal(uri) else None for uri in (source, destination))
        from_there, to_there = StoreOptions.of(self.source_options), StoreOptions.of(self.destination_options)
        if here is not None:
            _check_source(here, recursive=recursive)
            from_there.check(here.kind, source, written=False)
        if there is not None:
            to_there.check(there.kind, destination, written=True)
        if here is not None and there is not None and source_conn_id == destination_conn_id:
            _check_apart(here, there, recursive=recursive)
        self.source = source
        self.destination = destination
        self.mode = mode
        self.recursive = recursive
        self.source_conn_id = source_conn_id
        self.destination_conn_id = destination_conn_id
        self.google_impersonation_chain = google_impersonation_chain
        self.preserve_metadata = preserve_metadata
        self.include = include
        self.exclude = exclude
        self.include_regex = include_regex
        self.exclude_regex = exclude_regex
        self.manifest = manifest
        self.dry_run_only = dry_run_only
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
        self.delete = delete
        if delete and mode != "sync":
            raise ValueError("Invalid value for delete: only a sync deletes. Use mode='sync'")
        self._check_choice(manifest)

    def _check_choice(self, manifest: str | Sequence[str] | None) -> None:
        """Refuse what contradicts itself, as far as it is known before templates are rendered."""
        given = self._patterns()
        literal = all(is_literal(part) for value in given.values() for part in _several(value))
        keys = ("key",) if manifest is not None else None
        filters = msgspec.structs.replace(self._limits, rules=name_rules(given) if literal else (), keys=keys)
        selection, mapping = rule("", "", recursive=True) if self.recursive else rule("key", "", recursive=False)
        selection = msgspec.structs.replace(selection, filters=checked_filters(filters))
        check_sync(selection, mapping, self._options())

    def _patterns(self) -> dict[str, str | Sequence[str] | None]:
        return {name: getattr(self, name) for name in NAMES}

    def _options(self) -> TransferOptions:
        return TransferOptions(
            compare=self._compare,
            compression=Compression(self.compression),
            keep_attributes=self.preserve_metadata,
            overwrite=self._overwrite,
            server_side_copy=self._server_side_copy,
            delete=self.delete,
            max_delete=self._max_delete,
            attributes=rules_of(self.attribute_rules),
        )

    def execute(self, context: Context) -> dict[str, Any]:
        """Move everything and return the summary, or defer and let execute_complete do so."""
        try:
            if self.dry_run_only:
                return self._dry_run()
            result: dict[str, Any] = self._transfer(context)
        except NothingToTransfer as error:
            raise AirflowException(str(error)) from error
        return result

    def _dry_run(self) -> dict[str, Any]:
        with engine_errors():
            planned, meter = self.hook.engine.dry_run(self._request())
            for number, decision in enumerate(planned):
                meter.add(decision)
                if number < _LOGGED:
                    self.log.info("%s %s (%s)", decision.action.value, decision.destination_key, decision.reason)
        totals: dict[str, Any] = msgspec.to_builtins(planned.totals) | meter.cost().summary()
        self.log.info("Dry run: %s", totals)
        return totals

    def _request(self) -> Request:
        from airflow_provider_skyplane.engine import Request

        for uri in (self.source, self.destination):
            if not uri:
                raise InvalidURI("the URI is empty", next_step="Check what the template was rendered to.")
            parse(uri)
        return Request(
            source=lambda: self._place(self.source, self.source_conn_id, self.source_options, written=False),
            destination=lambda: self._place(
                self.destination, self.destination_conn_id, self.destination_options, written=True
            ),
            recursive=self.recursive,
            options=self._options(),
            filters=msgspec.structs.replace(
                self._limits, rules=name_rules(self._patterns()), keys=keys_of(self.manifest)
            ),
            receipt=self._receipt(*self._at_destination(), self.google_impersonation_chain),
            mode=self.mode,
        )

    def _at_destination(self) -> tuple[str, dict[str, str | None]]:
        here, there = parse(self.source), parse(self.destination)
        in_tree = there.kind in ("local", "hdfs")
        bucket = (there if in_tree else Endpoint(there.kind, there.bucket, "")).uri.rstrip("/")
        return bucket, {here.kind: self.source_conn_id, there.kind: self.destination_conn_id}

    def _place(self, uri: str, conn_id: str | None, options: Mapping[str, Any], *, written: bool) -> Any:
        return self.hook.place(
            uri,
            conn_id,
            impersonation_chain=self.google_impersonation_chain,
            options=StoreOptions.of(options),
            directory=written and self.recursive,
            written=written,
        )

    def _result(self, finished: Finished) -> dict[str, Any]:
        return finished.summary()


class SkyplaneSyncOperator(SkyplaneOperator):
    """:class:`SkyplaneOperator` with ``mode="sync"``: brings a destination up to date with its source."""

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


def _several(value: str | Sequence[str] | None) -> Sequence[str]:
    return (value,) if isinstance(value, str) else value or ()


def _check_source(source: Endpoint, *, recursive: bool) -> None:
    if not recursive and not locate(source, directory=False).key:
        raise UsageError(
            "the source names a bucket or directory, not an object",
            where=source.uri,
            next_step="Set recursive=True to copy all that is in it.",
        )


def _check_apart(source: Endpoint, destination: Endpoint, *, recursive: bool) -> None:
    """Refuse a bucket's tree into itself, if both ends have the same connection and so the same service."""
    if {"local", "hdfs"} & {source.kind, destination.kind}:
        return  # Only a file system knows what is a directory, and where links and ".." lead.
    selection, mapping = rule(source.key, destination.key, recursive=recursive)
    check_apart(
        Location(StoreConfig(source.kind, source.bucket), source.key),
        Location(StoreConfig(destination.kind, destination.bucket), destination.key),
        recursive=recursive,
        destination_key=map_key(mapping, source.key) if selection.single else destination.key,
    )
