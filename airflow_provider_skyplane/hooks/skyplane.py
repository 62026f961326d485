"""The hook: Airflow connections in, engine values out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async

from airflow_provider_skyplane.compat import AirflowException, AirflowNotFoundException, BaseHook
from airflow_provider_skyplane.get_provider_info import CONNECTION_TYPE, PLACEHOLDERS
from airflow_provider_skyplane.hooks.lifecycle import Lifecycle
from airflow_provider_skyplane.hooks.scopes import Scope, scope_of
from airflow_provider_skyplane.hooks.settings import Scoping, Settings, checked, gateway_count
from skyplane_core.model import Compression, StoreConfig
from skyplane_core.provision.hosts import SshHost
from skyplane_core.spec import TransferOptions
from skyplane_core.store_options import StoreOptions
from skyplane_core.uri import parse

if TYPE_CHECKING:
    from airflow_provider_skyplane.engine import Engine, Location, Request

DEFAULT_CONN_ID = "skyplane_default"


async def read_settings(skyplane_conn_id: str) -> Settings:
    """The settings of a connection that must exist, without blocking the triggerer's loop.

    Raises:
        AirflowNotFoundException: there is no such connection, or a host names one that does not exist.
        AirflowException: it is no ``skyplane`` connection, or a field of it cannot be used.
    """
    # All of it in a thread: to look a connection up may block, and so may to read its fields, whose secrets Airflow
    # masks by telling its supervisor. From a thread of asgiref's that finds its way back to the loop.
    return await sync_to_async(_settings_of, thread_sensitive=False)(skyplane_conn_id)


def _settings_of(skyplane_conn_id: str) -> Settings:
    return Settings.of(checked(BaseHook.get_connection(skyplane_conn_id)), BaseHook.get_connection)


async def read_access(skyplane_conn_id: str) -> tuple[bytes, tuple[SshHost, ...]]:
    """What a trigger needs to reach gateways: the control secret, and the SSH hosts.

    Raises:
        AirflowNotFoundException: as :func:`read_settings`.
        AirflowException: also if the connection holds no control secret.
    """
    settings = await read_settings(skyplane_conn_id)
    if settings.control_secret is None:
        raise AirflowException(f"Connection {skyplane_conn_id!r} holds no control secret in its password field.")
    return settings.control_secret, settings.hosts


class SkyplaneHook(Lifecycle, BaseHook):
    """Resolves credentials, and plans, starts, watches and ends transfers.

    Args:
        skyplane_conn_id: a connection of type ``skyplane``, see :class:`.settings.Settings`.
            ``skyplane_default`` need not exist: then gateways are started here and nobody else can reach them.
        gateways, compression: come before what the connection says.

    Raises:
        ValueError: another number of gateways than there can be on a worker.
    """

    conn_name_attr = "skyplane_conn_id"
    default_conn_name = DEFAULT_CONN_ID
    conn_type = CONNECTION_TYPE
    hook_name = "Skyplane"

    def __init__(
        self,
        skyplane_conn_id: str | None = DEFAULT_CONN_ID,
        *,
        gateways: int | None = None,
        compression: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.skyplane_conn_id = skyplane_conn_id
        self._gateways = None if gateways is None else gateway_count(gateways)
        self._compression = compression

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """The form's fields for Airflow before 3.2; newer ones read ``get_provider_info``."""
        from airflow_provider_skyplane.hooks.form import widgets

        return widgets()

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """The form's behaviour for Airflow before 3.2; newer ones read ``get_provider_info``."""
        return {
            "hidden_fields": ["host", "schema", "login", "port"],
            "relabeling": {"password": "Control secret"},
            "placeholders": PLACEHOLDERS,
        }

    @cached_property
    def connection(self) -> Any:
        """The ``skyplane`` connection, or None where there is none and none was asked for by name.

        Raises:
            AirflowNotFoundException: another id than the default was given and does not exist.
            AirflowException: it is of another type.
        """
        if not self.skyplane_conn_id:
            return None
        try:
            return checked(self.get_connection(self.skyplane_conn_id))
        except AirflowNotFoundException as error:
            if self.skyplane_conn_id != DEFAULT_CONN_ID:
                raise AirflowNotFoundException(
                    f"There is no connection {self.skyplane_conn_id!r}, and one of type {CONNECTION_TYPE!r} is asked "
                    "for by that name. Create it, or name another one with skyplane_conn_id."
                ) from error
            self.log.info("There is no connection %r: using local gateways on this worker.", DEFAULT_CONN_ID)
            return None

    @cached_property
    def settings(self) -> Settings:
        """What the connection says, and this hook's own arguments before it.

        Raises:
            AirflowNotFoundException: a host names a connection that does not exist.
            AirflowException: it is no ``skyplane`` connection, or one of its fields cannot be used; it is named.
        """
        settings = Settings() if self.connection is None else Settings.of(self.connection, self.get_connection)
        if self._compression is not None:
            settings = dataclasses.replace(settings, compression=Compression(self._compression))
        if self._gateways is None:
            return settings
        if settings.hosts:
            raise AirflowException(
                f"gateways is {self._gateways}, and connection {self.skyplane_conn_id!r} has hosts, each of which is "
                "one gateway. Leave gateways out, or use another connection."
            )
        return dataclasses.replace(settings, gateways=self._gateways)

    @property
    def gateways(self) -> int:
        """How many gateways there will be."""
        return len(self.settings.hosts) or self.settings.gateways

    @property
    def reachable_later(self) -> bool:
        """Whether a trigger, or another worker, can prove to the gateways that it is this client."""
        return self.settings.control_secret is not None

    @cached_property
    def engine(self) -> Engine:
        """The engine's client, with this connection's settings."""
        from airflow_provider_skyplane.engine import Engine

        settings = self.settings
        return Engine(
            gateways=settings.gateways,
            control_secret=settings.control_secret,
            hosts=settings.hosts,
            pool_bytes=settings.pool_bytes,
            expiry_seconds=settings.expiry_seconds,
            budget_usd=settings.budget_usd,
            compression=settings.compression,
        )

    def request(
        self,
        source: str,
        destination: str,
        *,
        source_conn_id: str | None = None,
        destination_conn_id: str | None = None,
        recursive: bool = True,
        **how: Any,
    ) -> Request:
        """What to move, for :meth:`plan` and :meth:`submit`, with the connections' credentials.

        Args:
            recursive: all that is under the source, else the one object of that name.
            how: further fields of :class:`~airflow_provider_skyplane.engine.Request`.
        """
        from airflow_provider_skyplane.engine import Request

        moved = how.get("options", TransferOptions()).move
        return Request(
            source=lambda: self.place(source, source_conn_id, moved=moved),
            destination=lambda: self.place(
                destination, destination_conn_id, directory=recursive, written=True, copies_from=source
            ),
            recursive=recursive,
            **how,
        )

    def s3(
        self, bucket: str, aws_conn_id: str | None = "aws_default", *, scope: Scope | None = None, **options: Any
    ) -> StoreConfig:
        """An S3 store with the connection's credentials; see :func:`hooks.aws.s3_config` for the options.

        Args:
            scope: what they are to be good for, if the ``skyplane`` connection wants them narrowed.
        """
        from airflow_provider_skyplane.hooks.aws import s3_config

        roles, keys = self._narrowed(scope, Scoping.AUTO, Scoping.ALWAYS), self._narrowed(scope, Scoping.ALWAYS)
        return s3_config(bucket, aws_conn_id, scope=roles, federate=keys is not None, **options)

    def gcs(
        self,
        bucket: str,
        gcp_conn_id: str = "google_cloud_default",
        impersonation_chain: str | Sequence[str] | None = None,
        endpoint_url: str = "",
        scope: Scope | None = None,
    ) -> StoreConfig:
        """A GCS store with a fresh access token of the connection; see :func:`hooks.gcp.gcs_config`.

        ``scope`` is as for :meth:`s3`.
        """
        from airflow_provider_skyplane.hooks.gcp import gcs_config

        scope = self._narrowed(scope, Scoping.ALWAYS)
        return gcs_config(
            bucket, gcp_conn_id, impersonation_chain=impersonation_chain, endpoint_url=endpoint_url, scope=scope
        )

    def azure(
        self,
        bucket: str,
        azure_conn_id: str = "wasb_default",
        endpoint_url: str = "",
        scope: Scope | None = None,
    ) -> StoreConfig:
        """An Azure container (``account/container``) with the connection's credentials; see :mod:`hooks.azure`.

        ``scope`` is as for :meth:`s3`.
        """
        from airflow_provider_skyplane.hooks.azure import azure_config

        scope = self._narrowed(scope, Scoping.ALWAYS)
        return azure_config(bucket, azure_conn_id, endpoint_url=endpoint_url, scope=scope)

    def _narrowed(self, scope: Scope | None, *modes: Scoping) -> Scope | None:
        """``scope``, if ``scoped_credentials`` is one of ``modes``."""
        return scope if scope is not None and self.settings.scoping in modes else None

    def place(
        self,
        uri: str,
        conn_id: str | None = None,
        impersonation_chain: str | Sequence[str] | None = None,
        *,
        options: StoreOptions = StoreOptions(),
        directory: bool = False,
        written: bool = False,
        moved: bool = False,
        copies_from: str = "",
    ) -> Location:
        """Where ``uri`` points, with the credentials of ``conn_id`` (the usual default connection if None).

        What they are good for may be no more than reading or writing there, as the connection's ``scoped_credentials``
        says.

        Args:
            options: how the store is reached and written; anonymous ones ask no connection.
            directory, written: as for :func:`skyplane_core.locations.resolve`; who does not write may only read.
            moved: the objects there are deleted once they have arrived.
            copies_from: URI of the source, if this is where its objects go: a store copies within itself.

        Raises:
            skyplane_core.errors.InvalidURI: the URI cannot be parsed.
            skyplane_core.errors.UsageError: the store does not take the options.
        """
        from airflow_provider_skyplane.engine import Location, resolve

        endpoint = parse(uri)
        options.check(endpoint.kind, uri, written=written)
        scope = scope_of(endpoint, directory=directory, written=written, moved=moved, copies_from=copies_from)
        if endpoint.kind == "s3" and not options.anonymous:
            store = self.s3(
                endpoint.bucket,
                conn_id or "aws_default",
                region_name=options.region or None,
                service=endpoint.service,
                endpoint_url=options.endpoint_url or endpoint.endpoint_url,
                account=options.account,
                scope=scope,
            )
        elif endpoint.kind == "gcs" and not options.anonymous:
            store = self.gcs(
                endpoint.bucket,
                conn_id or "google_cloud_default",
                impersonation_chain,
                options.endpoint_url,
                # Whoever pays needs a right on a project, which no bound token can carry.
                None if options.requester_pays else scope,
            )
        elif endpoint.kind == "azure" and not options.anonymous:
            store = self.azure(endpoint.bucket, conn_id or "wasb_default", options.endpoint_url, scope)
        elif endpoint.kind == "hdfs" and conn_id:
            from airflow_provider_skyplane.hooks.hdfs import hdfs_location

            return hdfs_location(endpoint, conn_id, directory=directory)
        else:
            return resolve(uri, options=options, directory=directory, written=written)
        return Location(options.applied(store), endpoint.key)

    def test_connection(self) -> tuple[bool, str]:
        """Whether gateways could be started by this connection, and found again by a trigger. Starts none.

        SSH hosts are reached and looked at. Without hosts only what the connection says is checked.
        """
        from skyplane_core.errors import SkyplaneError

        try:
            settings = self.settings
            if settings.control_secret is None:
                return False, "The password field must hold the control secret."
            return True, " ".join(["The connection is complete.", *self.engine.look()])
        except (AirflowException, SkyplaneError) as error:
            return False, str(error)
