"""From what a user asks for to a transfer that can run: rules, checks, and the credentials beside the spec.

Everything that can be refused is refused here, before anything is provisioned or written.
"""

from __future__ import annotations

import dataclasses
import os
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from skyplane_core.attribute_rules import check_attributes, check_readable
from skyplane_core.errors import BucketNotFound, NothingToTransfer, ObjectNotFound, PermissionDenied, UsageError
from skyplane_core.filters import Filters
from skyplane_core.keys import map_key, rule, select, source_prefix
from skyplane_core.locations import Location, check_apart
from skyplane_core.model import Credentials, ObjectInfo, StoreConfig
from skyplane_core.provision.bootstrap import DEFAULT_POOL_BYTES
from skyplane_core.receipt_place import check_aside, format_of, receipt_name
from skyplane_core.selection import tree_root
from skyplane_core.settings import (
    check_move,
    check_object,
    check_part_in_pool,
    check_parts,
    check_sync,
    checked_filters,
    checked_options,
)
from skyplane_core.spec import (
    STATE_SEGMENT,
    Destination,
    KeyMapping,
    MappingKind,
    Pick,
    ReceiptPlace,
    Selection,
    TransferOptions,
    TransferSpec,
)
from skyplane_core.stores.azure_container import make_container
from skyplane_core.stores.base import Capabilities, ObjectStore
from skyplane_core.stores.hdfs import make_root
from skyplane_core.stores.registry import open_store

Refresh = Callable[[], tuple[StoreConfig, StoreConfig]]
"""Fresh configs of source and destination, when the credentials in use are about to expire. May be called often."""


@dataclasses.dataclass(frozen=True, repr=False)
class Prepared:
    """A transfer that can run: the spec, and the credentials that it must not hold.

    ``pool_bytes`` is the buffer pool of the gateways that it is for. ``receipt`` is the store of ``spec.receipt``.
    """

    spec: TransferSpec
    source: StoreConfig
    destinations: tuple[StoreConfig, ...]
    refresh: Refresh | None = None
    resume: bool = False
    pool_bytes: int = DEFAULT_POOL_BYTES
    receipt: StoreConfig | None = None
    refresh_receipt: Callable[[], StoreConfig] | None = None

    @property
    def credentials_expire_at(self) -> float | None:
        """The earliest expiry among all credentials, in seconds since the epoch; None if nothing expires."""
        configs = [self.source, *self.destinations, *([self.receipt] if self.receipt is not None else [])]
        expiries = [config.credentials.expires_at for config in configs]
        return min((expiry for expiry in expiries if expiry is not None), default=None)

    def renewed(self) -> Prepared:
        """The same transfer with fresh credentials, as far as it can be told where they come from."""
        source, destinations, receipt = self.source, self.destinations, self.receipt
        if self.refresh is not None:
            source, destination = self.refresh()
            destinations = (destination,)
        if self.refresh_receipt is not None:
            receipt = self.refresh_receipt()
        elif receipt is not None:
            fresh = dict(zip((self.source, *self.destinations), (source, *destinations), strict=True))
            receipt = fresh.get(receipt, receipt)
        return dataclasses.replace(self, source=source, destinations=destinations, receipt=receipt)

    def __repr__(self) -> str:
        return f"Prepared({self.spec.transfer_id}, {self.source.uri} -> {self.destinations[0].uri})"


def prepare(
    source: Location,
    destination: Location,
    *,
    options: TransferOptions,
    recursive: bool = False,
    selection: Selection | None = None,
    mapping: KeyMapping | None = None,
    also: Sequence[Pick] = (),
    filters: Filters | None = None,
    state: str | None = None,
    transfer_id: str | None = None,
    resume: bool = False,
    refresh: Refresh | None = None,
    pool_bytes: int = DEFAULT_POOL_BYTES,
    receipt: Location | None = None,
    refresh_receipt: Callable[[], StoreConfig] | None = None,
) -> Prepared:
    """A transfer from ``source`` to ``destination``. Asks no store anything; see :func:`check`.

    Args:
        recursive: all objects under the source's key, otherwise the one object of that name.
        filters: leave out some of what is selected.
        selection, mapping: say exactly what is meant instead of the rules of ``cp [-r]``; both or neither.
        also: what is taken along besides.
        state: key prefix for journal and receipt in the destination's store; default ``.skyplane/<id>/`` under the
            destination's prefix.
        transfer_id: use this id (32 hexadecimal digits); what a transfer of it left is continued.
        resume: such a transfer must have been there (:func:`check` looks for what it left).
        pool_bytes: the buffer pool of the gateways that will run it.
        receipt: where the receipt is to be as well, once the transfer has ended: an object's name, or a prefix that
            ends in ``/``, which gets ``<transfer id>.jsonl``.
        refresh_receipt: fresh credentials for it, if it is not in the store of either end.

    Raises:
        UsageError: the request contradicts itself, or an option breaks a limit.
    """
    options = checked_options(options)
    check_part_in_pool(options, pool_bytes)
    check_attributes(options, source.store, destination.store)
    if (selection is None) != (mapping is None):
        raise UsageError("a selection needs a mapping, and a mapping a selection", where=source.uri)
    if selection is None or mapping is None:
        selection, mapping = rule(source.key, destination.key, recursive=recursive)
        landing = map_key(mapping, mapping.source) if selection.single else destination.key
        check_apart(source, destination, recursive=not selection.single, destination_key=landing)
    if filters is not None:
        selection = msgspec.structs.replace(selection, filters=filters)
    first, *more = (_checked_pick(pick, options) for pick in (Pick(selection, mapping), *also))
    check_move(options, [first, *more], resume=resume)
    _check_pinned(source, [first, *more])
    transfer_id = transfer_id or secrets.token_hex(16)
    if state is None:
        state = f"{_directory(mapping)}{STATE_SEGMENT}/{transfer_id}/"
    spec = TransferSpec(
        transfer_id=transfer_id,
        source=_public(source.store),
        selection=first.selection,
        destinations=(Destination(_public(destination.store), mapping),),
        options=options,
        state=state,
        created_at=time.time(),
        receipt=_receipt_place(receipt, transfer_id),
        also=tuple(more),
    )
    check_aside(spec)
    store = receipt.store if receipt is not None else None
    return Prepared(spec, source.store, (destination.store,), refresh, resume, pool_bytes, store, refresh_receipt)


def _checked_pick(pick: Pick, options: TransferOptions) -> Pick:
    selection = msgspec.structs.replace(pick.selection, filters=checked_filters(pick.selection.filters))
    check_sync(selection, pick.mapping, options)
    return Pick(selection, pick.mapping)


def _check_pinned(source: Location, picks: Sequence[Pick]) -> None:
    if source.store.object_version and not (len(picks) == 1 and picks[0].selection.single):
        raise UsageError(
            "object_version is for a source that is one object",
            where=source.uri,
            next_step="Name the object, and copy it without -r (recursive=False).",
        )


def check(
    prepared: Prepared, *, create_directory: bool = False, create_container: Callable[[], StoreConfig] | None = None
) -> None:
    """Ask both stores what would make the transfer fail at once. Reads only, but for what it may create.

    Args:
        create_directory: make the root directory of a destination that is a file system, and that of a local receipt.
        create_container: make a destination that is a container of Azure's and is not there, if there is something to
            move. What is called returns it with credentials that may.

    Raises:
        BucketNotFound, PermissionDenied, Unauthenticated: from either store.
        ObjectNotFound, NothingToTransfer, UsageError: there is nothing to move, or not what was meant.
        UsageError, StoreRejected: the parts that are asked for, or those of the one object, are not possible there.
    """
    source = open_store(prepared.source)
    try:
        source.probe()
        single = _check_picks(source, prepared.spec)
    finally:
        source.close()
    for config in prepared.destinations:
        if config.kind == "local":
            _check_directory(config, create=create_directory)
        elif config.kind == "hdfs" and create_directory:
            make_root(config)
        destination = open_store(config)
        try:
            _probe(destination, config, create_container)
            _check_parts(prepared, single, destination.capabilities, config)
            check_readable(prepared.spec.options, destination.capabilities, config)
            if prepared.resume:
                _check_resume(destination, prepared.spec)
        except BucketNotFound:
            if config.kind not in ("local", "hdfs") or create_directory:
                raise
        finally:
            destination.close()
    if prepared.receipt is not None:
        _check_receipt(prepared.receipt, create_directory=create_directory)


def _probe(destination: ObjectStore, config: StoreConfig, create: Callable[[], StoreConfig] | None) -> None:
    try:
        destination.probe()
    except BucketNotFound:
        if create is None or config.kind != "azure":
            raise
        make_container(create())


def _check_receipt(config: StoreConfig, *, create_directory: bool) -> None:
    """There is a place for the receipt."""
    if config.kind == "local":
        _check_directory(config, create=create_directory)
        return
    store = open_store(config)
    try:
        store.probe()
    finally:
        store.close()


def _check_directory(config: StoreConfig, *, create: bool) -> None:
    """A local destination can be written, or could be made."""
    path = Path(config.bucket)
    if create:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise UsageError("a file stands where a directory was meant", where=config.uri) from error
        except OSError as error:
            raise PermissionDenied(
                "the directory cannot be made", where=config.uri, why=str(error), next_step="Choose another one."
            ) from error
    existing = next(parent for parent in (path, *path.parents) if parent.exists())
    if not existing.is_dir():
        raise UsageError("a file stands where a directory was meant", where=f"file://{existing}")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise PermissionDenied(
            "the directory cannot be written", where=f"file://{existing}", next_step="Allow it, or choose another one."
        )


def _check_parts(prepared: Prepared, single: ObjectInfo | None, limits: Capabilities, config: StoreConfig) -> None:
    options, pool_bytes = prepared.spec.options, prepared.pool_bytes
    check_parts(options, pool_bytes, limits, config.uri)
    if single is not None:
        check_object(single.size, options, pool_bytes, limits, prepared.source.object_uri(single.key))


def _check_resume(destination: ObjectStore, spec: TransferSpec) -> None:
    if next(iter(destination.list(spec.state)), None) is None:
        raise UsageError(
            f"no transfer {spec.transfer_id} has left anything there to continue from",
            where=spec.destinations[0].store.object_uri(spec.state),
            next_step="Check id and destination; or start anew: a sync copies only what is missing.",
        )


def _check_picks(source: ObjectStore, spec: TransferSpec) -> ObjectInfo | None:
    """There is something to move. Returns the object if it is a single one."""
    nothing: NothingToTransfer | None = None
    for pick in spec.picks:
        try:
            return _check_source(source, spec, pick.selection)
        except NothingToTransfer as empty:
            nothing = nothing or empty
    raise nothing or AssertionError("a transfer of no pick")


def _check_source(source: ObjectStore, spec: TransferSpec, selection: Selection) -> ObjectInfo | None:
    uri = spec.source.object_uri(selection.prefix)
    if selection.single:
        try:
            return source.head(selection.prefix)
        except ObjectNotFound as error:
            if next(iter(source.list(tree_root(selection.prefix))), None) is not None:
                raise UsageError(
                    "the source is a prefix with objects under it, not an object",
                    where=uri,
                    next_step="Copy all that is under it with recursive=True (skyplane cp -r).",
                ) from error
            raise
    if selection.filters.keys is not None:
        return None
    # That filters leave out everything is no error: a nightly job may find nothing of the last day.
    everything = msgspec.structs.replace(selection, filters=Filters())
    listing = source.list(source_prefix(selection), delimiter=selection.delimiter)
    if next(select(everything, listing), None) is not None:
        return None
    if selection.tree and selection.prefix and not selection.prefix.endswith("/"):
        try:
            source.head(selection.prefix)
        except ObjectNotFound:
            pass  # neither a prefix nor an object: the error below says so
        else:
            raise UsageError(
                "the source is one object, not a prefix", where=uri, next_step="Copy it without recursive (without -r)."
            )
    if selection.tree and selection.prefix and source.capabilities.keys_are_paths:
        _require_directory(source, selection.prefix, uri)
    raise NothingToTransfer(
        "there is nothing under the source", where=uri, next_step="Check the prefix; keys are case-sensitive."
    )


def _require_directory(source: ObjectStore, prefix: str, uri: str) -> None:
    try:
        source.head(tree_root(prefix))
    except ObjectNotFound as error:
        raise NothingToTransfer(
            "the directory does not exist", where=uri, next_step="Create it, or check its name."
        ) from error


def _directory(mapping: KeyMapping) -> str:
    """The destination prefix under which a transfer may keep state of its own."""
    if mapping.kind is MappingKind.OBJECT:
        return mapping.destination[: mapping.destination.rfind("/") + 1]
    if mapping.kind is MappingKind.PREFIX:
        return tree_root(mapping.destination)
    return mapping.destination[: mapping.destination.rfind("/") + 1]


def _receipt_place(receipt: Location | None, transfer_id: str) -> ReceiptPlace | None:
    if receipt is None:
        return None
    key = receipt_name(receipt.key, transfer_id)
    format_of(key)
    return ReceiptPlace(_public(receipt.store), key)


def _public(config: StoreConfig) -> StoreConfig:
    return msgspec.structs.replace(config, credentials=Credentials())
