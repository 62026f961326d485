"""The hook: Airflow connections in, engine values out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_skyplane.compat import AirflowException, AirflowNotFoundException, BaseHook, mask_secret
from airflow_provider_skyplane.get_provider_info import CONNECTION_TYPE
from skyplane_core.model import StoreConfig
from skyplane_core.store_options import StoreOptions
from skyplane_core.uri import parse

if TYPE_CHECKING:
    from airflow_provider_skyplane.engine import Engine, Location

DEFAULT_CONN_ID = "skyplane_default"
MIN_SECRET_CHARACTERS = 32
_GATEWAYS = ("1", "2", "3")


def control_secret(connection: Any) -> bytes | None:
    """The control secret that a ``skyplane`` connection holds in its password field, None if it has none.

    Raises:
        AirflowException: the secret is too short to derive an identity from.
    """
    # Surrounding white space does not count, as in the command line's secret file: the same text is the same secret.
    secret = str(connection.password or "").strip()
    if not secret:
        return None
    mask_secret(secret)
    if len(secret) < MIN_SECRET_CHARACTERS:
        raise AirflowException(
            f"The control secret of connection {connection.conn_id!r} has fewer than {MIN_SECRET_CHARACTERS} "
            "characters. Put a long random one into its password field."
        )
    return secret.encode()


async def read_control_secret(skyplane_conn_id: str) -> bytes:
    """The control secret, without blocking the triggerer's loop.

    Raises:
        AirflowNotFoundException: there is no such connection.
        AirflowException: it holds no control secret.
    """
    # Airflow has the async look-up from 3.1 on; there the sync one may refuse to run inside a trigger.
    look_up = getattr(BaseHook, "aget_connection", None)
    if look_up is None:
        from asgiref.sync import sync_to_async

        look_up = sync_to_async(BaseHook.get_connection)
    secret = control_secret(await look_up(skyplane_conn_id))
    if secret is None:
        raise AirflowException(f"Connection {skyplane_conn_id!r} holds no control secret in its password field.")
    return secret


class SkyplaneHook(BaseHook):
    """Resolves credentials, and makes the engine's client.

    Args:
        skyplane_conn_id: a connection of type ``skyplane``: the control secret in its password, ``gateways`` in its
            extra. ``skyplane_default`` need not exist: then gateways are started here and nobody else can reach them.
        gateways: overrides the connection's number of gateways.
    """

    conn_name_attr = "skyplane_conn_id"
    default_conn_name = DEFAULT_CONN_ID
    conn_type = CONNECTION_TYPE
    hook_name = "Skyplane"

    def __init__(
        self, skyplane_conn_id: str | None = DEFAULT_CONN_ID, *, gateways: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.skyplane_conn_id = skyplane_conn_id
        self._gateways = gateways

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Form behaviour for Airflow before 3.2; newer ones read ``get_provider_info``."""
        return {
            "hidden_fields": ["host", "schema", "login", "port"],
            "relabeling": {"password": "Control secret"},
            "placeholders": {"extra": '{"gateways": 2}'},
        }

    @cached_property
    def connection(self) -> Any:
        """The ``skyplane`` connection, or None where there is none and none was asked for by name.

        Raises:
            AirflowNotFoundException: another id than the default was given and does not exist.
        """
        if not self.skyplane_conn_id:
            return None
        try:
            return self.get_connection(self.skyplane_conn_id)
        except AirflowNotFoundException:
            if self.skyplane_conn_id != DEFAULT_CONN_ID:
                raise
            self.log.info("There is no connection %r: using local gateways on this worker.", DEFAULT_CONN_ID)
            return None

    @property
    def gateways(self) -> int:
        """Gateways to use: the argument, else the connection's ``gateways``, else 1.

        Raises:
            AirflowException: the connection's is no number of gateways.
        """
        if self._gateways is not None:
            return self._gateways
        said = self.connection.extra_dejson.get("gateways") if self.connection is not None else None
        if said in (None, ""):
            return 1
        if str(said) not in _GATEWAYS:
            raise AirflowException(
                f"The extra field gateways of connection {self.skyplane_conn_id!r} is {said!r}. "
                f"Expected one of {', '.join(_GATEWAYS)}."
            )
        return int(said)

    @property
    def reachable_later(self) -> bool:
        """Whether a trigger, or another worker, can prove to the gateways that it is this client."""
        return self.connection is not None and control_secret(self.connection) is not None

    @cached_property
    def engine(self) -> Engine:
        """The engine's client, with this connection's settings."""
        from airflow_provider_skyplane.engine import Engine

        secret = control_secret(self.connection) if self.connection is not None else None
        return Engine(gateways=self.gateways, control_secret=secret)

    def s3(self, bucket: str, aws_conn_id: str | None = "aws_default", **options: Any) -> StoreConfig:
        """An S3 store with the connection's credentials; see :func:`hooks.aws.s3_config` for the options."""
        from airflow_provider_skyplane.hooks.aws import s3_config

        return s3_config(bucket, aws_conn_id, **options)

    def gcs(
        self,
        bucket: str,
        gcp_conn_id: str = "google_cloud_default",
        impersonation_chain: str | Sequence[str] | None = None,
        endpoint_url: str = "",
    ) -> StoreConfig:
        """A GCS store with a fresh access token of the connection; see :func:`hooks.gcp.gcs_config`."""
        from airflow_provider_skyplane.hooks.gcp import gcs_config

        return gcs_config(bucket, gcp_conn_id, impersonation_chain=impersonation_chain, endpoint_url=endpoint_url)

    def azure(self, bucket: str, azure_conn_id: str = "wasb_default", endpoint_url: str = "") -> StoreConfig:
        """An Azure container (``account/container``) with the connection's credentials; see :mod:`hooks.azure`."""
        from airflow_provider_skyplane.hooks.azure import azure_config

        config = azure_config(bucket, azure_conn_id)
        return msgspec.structs.replace(config, endpoint_url=endpoint_url or config.endpoint_url)

    def place(
        self,
        uri: str,
        conn_id: str | None = None,
        impersonation_chain: str | Sequence[str] | None = None,
        *,
        options: StoreOptions = StoreOptions(),
        directory: bool = False,
        written: bool = False,
    ) -> Location:
        """Where ``uri`` points, with the credentials of ``conn_id`` (the usual default connection if None).

        Args:
            options: how the store is reached and written; anonymous ones ask no connection.
            directory, written: as for :func:`skyplane_core.locations.resolve`.

        Raises:
            skyplane_core.errors.InvalidURI: the URI cannot be parsed.
            skyplane_core.errors.UsageError: the store does not take the options.
        """
        from airflow_provider_skyplane.engine import Location, resolve

        endpoint = parse(uri)
        options.check(endpoint.kind, uri, written=written)
        if endpoint.kind == "s3" and not options.anonymous:
            store = self.s3(
                endpoint.bucket,
                conn_id or "aws_default",
                region_name=options.region or None,
                service=endpoint.service,
                endpoint_url=options.endpoint_url or endpoint.endpoint_url,
                account=options.account,
            )
        elif endpoint.kind == "gcs" and not options.anonymous:
            store = self.gcs(
                endpoint.bucket, conn_id or "google_cloud_default", impersonation_chain, options.endpoint_url
            )
        elif endpoint.kind == "azure" and not options.anonymous:
            store = self.azure(endpoint.bucket, conn_id or "wasb_default", options.endpoint_url)
        else:
            return resolve(uri, options=options, directory=directory, written=written)
        return Location(options.applied(store), endpoint.key)

    def test_connection(self) -> tuple[bool, str]:
        """Check that the connection holds what gateways and triggers need; nothing is started."""
        try:
            if not self.reachable_later:
                return False, "The password field must hold the control secret."
            gateways = self.gateways
        except AirflowException as error:
            return False, str(error)
        return True, f"The connection is complete: {gateways} gateway(s)."
