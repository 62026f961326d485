"""Where an ``hdfs://`` URI points, with Hadoop's configuration and user as the environment has them."""

from __future__ import annotations

import contextlib
import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path

import msgspec

from skyplane_core.errors import UsageError
from skyplane_core.model import Hadoop, StoreConfig
from skyplane_core.stores.hdfs_client import Hdfs, ambient_user
from skyplane_core.uri import Endpoint, locate

DATANODES = "SKYPLANE_HDFS_DATANODES"
"""Names this module's own variable: ``name=address`` pairs, separated by commas."""
_USED = re.compile(
    r"dfs\.(ha\.namenodes|namenode\.rpc-address|client)\..*|dfs\.data\.transfer\.protection"
    r"|hadoop\.(security\.authentication|rpc\.protection)"
)
_ADDRESS = re.compile(r"[A-Za-z0-9._-]+(:[0-9]{1,5})?")


def divide(endpoint: Endpoint, hadoop: Hadoop, *, directory: bool) -> tuple[StoreConfig, str]:
    """The store that ``endpoint`` lies in, and its key there.

    Args:
        directory: the path is to be a directory. Otherwise the NameNode is asked whether it is one.

    Raises:
        UsageError: the client's library is not installed, or the configuration is incomplete.
        StoreError: the NameNode cannot be asked.
    """
    located = locate(endpoint, directory=directory)
    config = StoreConfig("hdfs", located.bucket, endpoint_url=endpoint.endpoint_url, hadoop=hadoop)
    if not located.key:
        return config, ""
    with contextlib.closing(Hdfs(config)) as hdfs:
        found = hdfs.find(endpoint.key, endpoint.uri)
    if found is not None and found.is_directory:
        return msgspec.structs.replace(config, bucket=endpoint.key), ""
    return config, located.key


def environment() -> Hadoop:
    """``HADOOP_CONF_DIR`` (or ``HADOOP_HOME``), ``HADOOP_USER_NAME`` and :data:`DATANODES` as values.

    Raises:
        UsageError: one of them cannot be read.
    """
    directory = os.environ.get("HADOOP_CONF_DIR", "")
    if not directory and os.environ.get("HADOOP_HOME"):
        directory = f"{os.environ['HADOOP_HOME']}/etc/hadoop"
    properties = {}
    for name in ("core-site.xml", "hdfs-site.xml") if directory else ():
        properties.update(_properties(Path(directory, name)))
    pairs = (pair.partition("=") for pair in os.environ.get(DATANODES, "").split(",") if pair.strip())
    return settings(
        ambient_user(),
        properties,
        {name.strip(): address.strip() for name, _, address in pairs},
        DATANODES,
    )


def settings(user: str, properties: Mapping[str, str], datanodes: Mapping[str, str], said_by: str) -> Hadoop:
    """Checked settings.

    Args:
        said_by: whence the DataNodes' addresses are, for the error.

    Raises:
        UsageError: an address is none.
    """
    for name, address in datanodes.items():
        if not _ADDRESS.fullmatch(name) or not _ADDRESS.fullmatch(address):
            raise UsageError(
                f"{name!r}: {address!r} says no other address of a DataNode",
                where=said_by,
                next_step="Write name or name:port on both sides, as in dn1.cluster=203.0.113.7.",
            )
    secured = properties.get("hadoop.security.authentication") == "kerberos"
    if datanodes and properties.get("hadoop.rpc.protection", "authentication") != "authentication":
        raise UsageError(
            "other addresses of DataNodes cannot be used where the NameNode's answers are signed or encrypted",
            where=said_by,
            why=f"hadoop.rpc.protection is {properties['hadoop.rpc.protection']}",
            next_step="Let the DataNodes' host names lead to those addresses (DNS, /etc/hosts) instead.",
        )
    # With Kerberos the ticket says who it is.
    return Hadoop("" if secured else user, dict(properties), dict(datanodes))


def _properties(path: Path) -> dict[str, str]:
    """Those of a file of Hadoop's that matter to a client. One that is not there has none."""
    try:
        root = ET.parse(path).getroot()  # noqa: S314 - the user's own configuration
    except FileNotFoundError:
        return {}
    except (OSError, ET.ParseError) as error:
        raise UsageError("Hadoop's configuration cannot be read", where=str(path), why=str(error)) from error
    found = ((node.findtext("name", "").strip(), node.findtext("value", "").strip()) for node in root.iter("property"))
    return {name: value for name, value in found if _USED.fullmatch(name)}
