"""The Python API: ``SkyplaneClient().copy("s3://a/x", "gs://b/y", recursive=True)``, and dataplanes that are kept.

The names are those that users of the open-source Skyplane know; unlike there, a call that returns has succeeded, and
one that fails raises.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from skyplane_core.control_secret import control_secret
from skyplane_core.coordinator.decide import decisions
from skyplane_core.coordinator.preview import PreviewStore
from skyplane_core.dataplane import Dataplane
from skyplane_core.diff import Decision
from skyplane_core.dry_run import DryRun
from skyplane_core.errors import UsageError
from skyplane_core.filters import Filters
from skyplane_core.identity import check_secret
from skyplane_core.locations import Location, resolve
from skyplane_core.model import Role, StoreConfig
from skyplane_core.planner.cost import CostMeter
from skyplane_core.planner.layout import Layout
from skyplane_core.planner.plan import Plan, Via
from skyplane_core.prepare import Prepared, Refresh, check, prepare
from skyplane_core.provision.base import DataplaneReference
from skyplane_core.provision.bootstrap import DEFAULT_POOL_BYTES
from skyplane_core.provision.choose import check_shape
from skyplane_core.provision.hosts import SshHost
from skyplane_core.receipt_place import at_hand, check_format
from skyplane_core.settings import check_gateways, checked_options, delete_cap
from skyplane_core.spec import Compare, KeyMapping, Overwrite, Pick, Progress, Selection, TransferOptions
from skyplane_core.store_options import StoreOptions
from skyplane_core.stores.registry import open_store
from skyplane_core.tracker import Result, Tracker
from skyplane_core.uri import parse

__all__ = ["ClientConfig", "Dataplane", "Location", "Prepared", "Result", "SkyplaneClient", "Tracker"]

MODES = ("copy", "sync")


@dataclasses.dataclass(frozen=True)
class ClientConfig:
    """What a client uses unless a call says otherwise.

    Args:
        gateways: 1 reads and writes in one process; 2 puts a reader and a writer on either side of an encrypted wire; 3
            puts a relay between them.
        layout: instead of ``gateways``, how many read, relay and write: ``2:1:2`` (see :class:`Layout`).
        hosts: machines reached by SSH that become the gateways, instead of processes of this one; each may have a role.
        via: with relays, whether routes lead over them, or both over them and straight to the writers.
        pool_bytes: buffer pool of each gateway; its memory limit is this plus about 150 MB.
        expiry_seconds: an idle gateway ends itself after so long.
        control_secret: from which dataplanes' identities are derived; None uses the command line's owner-only file.

    Raises:
        UsageError: a value cannot be used, or two contradict each other.
    """

    gateways: int = 1
    hosts: tuple[SshHost, ...] = ()
    pool_bytes: int = DEFAULT_POOL_BYTES
    expiry_seconds: float = 900.0
    control_secret: bytes | None = dataclasses.field(default=None, repr=False)
    layout: str = ""
    via: Via = Via.RELAYED

    def __post_init__(self) -> None:
        check_gateways(self.pool_bytes, self.expiry_seconds)
        if self.control_secret is not None:
            check_secret(self.control_secret)
        if self.layout and self.hosts:
            raise UsageError(
                "a layout is for processes of this machine, and hosts are given",
                where=self.layout,
                next_step="Leave it out, and give the hosts a role each.",
            )
        if type(self.gateways) is not int or self.gateways < 1:
            raise UsageError(f"a dataplane of {self.gateways!r} gateways", next_step="Use at least one.")
        self.roles()

    def roles(self) -> tuple[Role | None, ...]:
        """What each gateway does, the head first; None where its place says it.

        Raises:
            UsageError: the layout is none.
        """
        return Layout.parse(self.layout).roles if self.layout else (None,) * self.gateways

    def secret(self) -> bytes:
        """The control secret; the command line's file is made if it is not there."""
        return self.control_secret if self.control_secret is not None else control_secret()


class SkyplaneClient:
    """Prepares transfers, provisions dataplanes and finds them again. Holds no connection of its own."""

    def __init__(self, config: ClientConfig | None = None) -> None:
        self.config = config or ClientConfig()

    def prepare(
        self,
        source: str | Location,
        destination: str | Location,
        *,
        mode: str = "copy",
        recursive: bool = False,
        options: TransferOptions | None = None,
        selection: Selection | None = None,
        mapping: KeyMapping | None = None,
        also: Sequence[Pick] = (),
        filters: Filters | None = None,
        compare: Compare | str | None = None,
        overwrite: Overwrite | str | None = None,
        delete: bool = False,
        max_delete: int | str | None = None,
        state: str | None = None,
        transfer_id: str | None = None,
        resume: bool = False,
        refresh: Refresh | None = None,
        receipt: str | Location | None = None,
        refresh_receipt: Callable[[], StoreConfig] | None = None,
        source_options: StoreOptions = StoreOptions(),
        destination_options: StoreOptions = StoreOptions(),
    ) -> Prepared:
        """A transfer as a value; no store is asked anything yet. For the arguments see :func:`prepare.prepare`.

        ``source_options`` and ``destination_options`` say how the ends are reached that are given as a URI.
        ``receipt`` as a URI has the credentials of source or destination if it is in one of their buckets, else those
        that the environment has for it.

        ``mode="sync"`` is recursive and leaves unchanged objects alone (Compare.EXACT unless ``options`` says else); so
        does ``resume``, since what had arrived is not to be copied again. ``compare``, ``overwrite``, ``delete`` and
        ``max_delete`` (a number, or a share such as ``"10%"``) come before what ``options`` says; see docs/sync.md.

        Raises:
            UsageError, InvalidURI: the request makes no sense.
        """
        if mode not in MODES:
            raise UsageError(f"no mode {mode!r}", next_step=f"Use one of: {', '.join(MODES)}.")
        recursive = recursive or mode == "sync"
        check_shape(self.config)
        self._refuse_local_ends(source, destination)
        if options is None:
            options = TransferOptions(compare=Compare.EXACT if mode == "sync" or resume else Compare.ALWAYS)
        options = _with(options, compare, overwrite, delete=delete, max_delete=max_delete)
        if options.delete and mode != "sync":
            raise UsageError("only a sync deletes", next_step='Use mode="sync", or leave delete out.')
        directory = recursive or selection is not None
        _check_options(source, source_options)
        _check_options(destination, destination_options)

        def source_end() -> Location:
            return source if isinstance(source, Location) else resolve(source, options=source_options)

        def destination_end() -> Location:
            if isinstance(destination, Location):
                return destination
            return resolve(destination, options=destination_options, directory=directory, written=True)

        if refresh is None and not isinstance(source, Location) and not isinstance(destination, Location):
            # The environment's credentials can be resolved again; those that a caller gave are the caller's to renew.
            def refresh() -> tuple[StoreConfig, StoreConfig]:
                return source_end().store, destination_end().store

        here, there = source_end(), destination_end()
        if isinstance(receipt, str):
            receipt, refresh_receipt = _receipt(receipt, there, here)
        if receipt is not None:
            self._refuse_local_ends(receipt)
            check_format(receipt.key, remote=bool(self.config.hosts))
        return prepare(
            here,
            there,
            options=options,
            recursive=recursive,
            selection=selection,
            mapping=mapping,
            also=also,
            filters=filters,
            state=state,
            transfer_id=transfer_id,
            resume=resume,
            refresh=refresh,
            pool_bytes=self.config.pool_bytes,
            receipt=receipt,
            refresh_receipt=refresh_receipt,
        )

    def dry_run(self, prepared: Prepared) -> tuple[Plan, DryRun]:
        """The plan, and what would become of each object, as a stream. Provisions nothing and writes nothing."""
        check(prepared)
        stopped: list[str] = []
        return self.dataplane().plan(prepared), DryRun(prepared.spec, _preview(prepared, stopped), stopped)

    def cost_meter(self, prepared: Prepared) -> CostMeter:
        """Counts a dry run's decisions, which are added to it, and tells what the transfer would cost by list prices.

        ::

            plan, decisions = client.dry_run(prepared)
            meter = client.cost_meter(prepared)
            for decision in decisions:
                meter.add(decision)
            print(meter.cost().usd, meter.cost().unknown)
        """
        with contextlib.closing(open_store(prepared.destinations[0])) as destination:
            limits = destination.capabilities
        return CostMeter(prepared.spec, self.dataplane().plan(prepared), limits, prepared.pool_bytes)

    def copy(self, src: str | Location, dst: str | Location, recursive: bool = False, **how: Any) -> Result:  # noqa: FBT001, FBT002 - the signature that users know
        """Copy an object, or with ``recursive`` all objects under a prefix, and return when they have arrived.

        Args:
            how: as for :meth:`prepare`, and ``on_progress``.

        Raises:
            UsageError, StoreError: refused before anything was provisioned or written.
            TransferFailed: some objects did not arrive; they are named.
        """
        return self._run(src, dst, recursive=recursive, **how)

    def sync(self, src: str | Location, dst: str | Location, **how: Any) -> Result:
        """As :meth:`copy` of a tree, leaving alone what is unchanged at the destination."""
        return self._run(src, dst, mode="sync", **how)

    def dataplane(
        self,
        src_cloud_provider: str = "local",
        src_region: str = "",  # noqa: ARG002 - a local gateway is wherever this machine is
        dst_cloud_provider: str = "local",
        dst_region: str = "",  # noqa: ARG002
        solver_type: str = "direct",
        n_vms: int = 1,
        **_unused: Any,
    ) -> Dataplane:
        """A dataplane that is not provisioned yet. The providers must be ``local``; the config's hosts are used if any.

        Raises:
            UsageError: a provider or solver that does not exist yet; nothing is silently replaced by another.
        """
        if _unused:
            raise UsageError(f"unknown arguments: {', '.join(_unused)}")
        for provider in (src_cloud_provider, dst_cloud_provider):
            if provider != "local":
                raise UsageError(
                    f"no provisioner for {provider!r} yet", next_step='Use "local": gateways on this machine.'
                )
        if solver_type != "direct" or n_vms != 1:
            raise UsageError(
                "local gateways are planned as 'direct' with one gateway a side",
                next_step="Leave solver_type and n_vms at their defaults.",
            )
        return Dataplane(self.config)

    def attach(self, reference: DataplaneReference) -> Dataplane:
        """The dataplane that ``reference`` names, provisioned earlier by anybody with the same control secret."""
        return Dataplane(self.config, reference)

    def _refuse_local_ends(self, *ends: str | Location) -> None:
        """A path means a file of this machine, and gateways on other hosts do not have it."""
        if not self.config.hosts:
            return
        for end in ends:
            uri, kind = (end.uri, end.store.kind) if isinstance(end, Location) else (end, parse(end, cwd="/").kind)
            if kind == "local":
                raise UsageError(
                    "gateways on other hosts do not see the files of this machine",
                    where=uri,
                    next_step="Give no hosts, or name buckets on both sides.",
                )

    def _run(
        self,
        src: str | Location,
        dst: str | Location,
        *,
        on_progress: Callable[[Progress], None] | None = None,
        **how: Any,
    ) -> Result:
        prepared = self.prepare(src, dst, **how)
        check(prepared, create_directory=True)
        dataplane = self.dataplane()
        with dataplane.auto_deprovision():
            dataplane.provision()
            result = dataplane.submit(prepared).wait(on_progress)
        result.raise_for_state()
        return result


def _with(
    options: TransferOptions,
    compare: Compare | str | None,
    overwrite: Overwrite | str | None,
    *,
    delete: bool,
    max_delete: int | str | None,
) -> TransferOptions:
    said = {
        "compare": compare,
        "overwrite": overwrite,
        "delete": delete or None,
        "max_delete": None if max_delete is None else delete_cap(max_delete),
    }
    given = {name: value for name, value in said.items() if value is not None}
    # Only now are the types those of the options: a caller may name a comparison or a policy in words.
    return checked_options(msgspec.structs.replace(options, **given))


def _preview(prepared: Prepared, stopped: list[str]) -> Iterator[Decision]:
    with (
        contextlib.closing(open_store(prepared.source)) as source,
        contextlib.closing(open_store(prepared.destinations[0])) as destination,
    ):
        yield from decisions(
            prepared.spec, lambda listing: listing, PreviewStore(source), PreviewStore(destination), stopped
        )


def _check_options(end: str | Location, options: StoreOptions) -> None:
    if isinstance(end, Location) and options != StoreOptions():
        raise UsageError(
            "options of a store are for an end that is given as a URI",
            where=end.uri,
            next_step="Leave them out, and put them into the location's store.",
        )


def _receipt(uri: str, *ends: Location) -> tuple[Location, Callable[[], StoreConfig] | None]:
    """Where a receipt goes, and how its credentials are renewed if they are not those of an end."""
    found = at_hand(uri, *ends)
    if found is not None:
        return found, None
    return resolve(uri, written=True), lambda: resolve(uri, written=True).store
