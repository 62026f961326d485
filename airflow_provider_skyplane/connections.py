"""Connections of the wrong type, and such as are not there, refused by the argument that named them."""

from __future__ import annotations

from airflow_provider_skyplane.compat import AirflowException, AirflowNotFoundException, BaseHook
from airflow_provider_skyplane.ends import End
from skyplane_core.store_options import StoreOptions

_TYPES = {
    "s3": ("aws", "s3"),
    "gcs": ("google_cloud_platform", "gcpbigquery"),
    "azure": ("wasb", "adls"),
    "hdfs": ("webhdfs", "hdfs"),
}
"""Types of connections that hold credentials of a store's kind, the usual one first."""
_DEFAULTS = {"s3": "aws_default", "gcs": "google_cloud_default", "azure": "wasb_default"}
_SAYS_NOTHING = ("", "generic")


def check_connection(end: End) -> None:
    """Refuse an end whose connection cannot be its own.

    Without ``aws_default`` the environment's credentials are used, as the amazon provider does, and without a
    connection for HDFS the worker's configuration.

    Raises:
        AirflowNotFoundException: there is no such connection.
        AirflowException: it is of another type.
    """
    endpoint = end.endpoint
    conn_id = end.conn_id or _DEFAULTS.get(endpoint.kind)
    if conn_id is None or endpoint.kind not in _TYPES or StoreOptions.of(end.options).anonymous:
        return
    usual = _TYPES[endpoint.kind][0]
    try:
        found = BaseHook.get_connection(conn_id)
    except AirflowNotFoundException as error:
        if end.conn_id is None and endpoint.kind == "s3":
            return
        raise AirflowNotFoundException(
            f"There is no connection {conn_id!r}, and {end.argument} {endpoint.uri} needs one of type {usual!r}. "
            f"Create it, or name another one with {end.conn_argument}."
        ) from error
    said = found.conn_type or ""
    if said not in (*_TYPES[endpoint.kind], *_SAYS_NOTHING):
        raise AirflowException(
            f"Connection {conn_id!r} is of type {said!r}, and {end.argument} {endpoint.uri} needs one of type "
            f"{usual!r}. Name such a connection with {end.conn_argument}."
        )
