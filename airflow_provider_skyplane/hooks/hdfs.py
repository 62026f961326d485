"""Where in HDFS a URI points, with the user and the settings of an Airflow connection."""

from __future__ import annotations

from typing import Any

from airflow_provider_skyplane.compat import AirflowException, BaseHook
from skyplane_core.locations import Location
from skyplane_core.stores.hdfs_resolve import divide, environment, settings
from skyplane_core.uri import Endpoint


def hdfs_location(endpoint: Endpoint, conn_id: str, *, directory: bool) -> Location:
    """The location, as the connection's login and with the ``properties`` and ``datanodes`` of its extra.

    The NameNode is the URI's: a ``webhdfs`` connection names another port of it. What the connection leaves open is as
    the worker's environment has it.

    Raises:
        AirflowNotFoundException: there is no such connection.
        AirflowException: its extra does not hold what is expected.
        skyplane_core.errors.SkyplaneError: see :func:`skyplane_core.stores.hdfs_resolve.divide`.
    """
    connection = BaseHook.get_connection(conn_id)
    extra, around = connection.extra_dejson, environment()
    hadoop = settings(
        connection.login or around.user,
        {**around.properties, **_texts(extra, "properties", conn_id)},
        {**around.datanodes, **_texts(extra, "datanodes", conn_id)},
        f"connection {conn_id}",
    )
    return Location(*divide(endpoint, hadoop, directory=directory))


def _texts(extra: dict[str, Any], field: str, conn_id: str) -> dict[str, str]:
    found = extra.get(field) or {}
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise AirflowException(
            f"The extra field {field} of connection {conn_id!r} is {found!r}. Expected names with a text each, "
            'as in {"datanodes": {"dn1.cluster": "203.0.113.7"}}.'
        )
    return found
