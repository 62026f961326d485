"""The HDFS client of one store. The only module that knows the client's library, which it imports on first use."""

from __future__ import annotations

import contextlib
import getpass
import os
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from skyplane_core.errors import ObjectNotFound, StoreError, UsageError
from skyplane_core.model import StoreConfig
from skyplane_core.stores.hdfs_calls import NameNodeCalls
from skyplane_core.stores.hdfs_errors import mapped
from skyplane_core.stores.hdfs_relay import NameNodeRelay

if TYPE_CHECKING:
    from hdfs_native import Client, FileReader, FileWriter

DEFAULT_PORT = 8020
INSTALL = "Install it with: pip install 'airflow-provider-skyplane[hdfs]'"
_DEFAULTS = {
    # The library's own would try for three minutes before it says that there is no NameNode. We try again ourselves.
    "dfs.client.failover.max.attempts": "2",
}
_AUTHENTICATION = "hadoop.security.authentication"
_USE_HOSTNAME = "dfs.client.use.datanode.hostname"
_WRITE_PIECE = 1024 * 1024
DIRECTORY_MODE = 0o755


class Status(NamedTuple):
    """What a NameNode says of a file or directory. ``modified`` is in milliseconds since the epoch."""

    path: str
    size: int
    is_directory: bool
    modified: int
    mode: int

    @property
    def version(self) -> str:
        """A file's version: other bytes at this path have another one, unless written in the same millisecond.

        A directory, which stands for a zero-byte marker, keeps its version while files in it come and go.
        """
        return "directory" if self.is_directory else f"{self.modified}-{self.size}"


class Hdfs:
    """One cluster, for all threads of a process. Errors are ours; ``where`` is what they are about.

    Connects on first use. There is a relay for each NameNode where the user or DataNodes' addresses are to be others
    than the library would take.
    """

    def __init__(self, config: StoreConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._relays: list[NameNodeRelay] = []
        secured = config.hadoop.properties.get(_AUTHENTICATION) == "kerberos"
        self.calls = None if secured else NameNodeCalls(namenodes(config).listed, config.hadoop.user or ambient_user())
        """What the library does not offer; None where the cluster has Kerberos."""

    def status(self, path: str, where: str) -> Status:
        """Raises ObjectNotFound."""
        with self._calling(where) as client:
            return _status(client.get_file_info(path))

    def find(self, path: str, where: str) -> Status | None:
        """The status, or None if nothing is there."""
        try:
            return self.status(path, where)
        except ObjectNotFound:
            return None

    def entries(self, path: str, where: str) -> Iterator[Status]:
        """What is in a directory, in no order. Raises ObjectNotFound, even while it is being read."""
        with self._calling(where) as client:
            for entry in client.list_status(path):
                yield _status(entry)

    @contextlib.contextmanager
    def reading(self, path: str, where: str) -> Iterator[FileReader]:
        """A file opened to be read: these bytes, whatever becomes of the path. Raises ObjectNotFound."""
        with self._calling(where) as client:
            reader = client.read(path)
        with mapped(where, bytes_move=True):
            yield reader

    def write(self, path: str, pieces: Iterator[memoryview], where: str) -> None:
        """Write a new file in a directory that exists (ObjectNotFound). One that fails stays hidden and unfinished."""
        with self._calling(where) as client:
            from hdfs_native import WriteOptions

            writer: FileWriter = client.create(path, WriteOptions(create_parent=False))
        with mapped(where, bytes_move=True):
            for piece in pieces:
                for start in range(0, len(piece), _WRITE_PIECE):
                    writer.write(piece[start : start + _WRITE_PIECE])
            writer.close()

    def make_directory(self, path: str, where: str, mode: int = DIRECTORY_MODE) -> None:
        """Make a directory, and those above it; one that exists is no error and stays as it is."""
        with self._calling(where) as client:
            client.mkdirs(path, mode, True)  # noqa: FBT003 - the library's own signature

    def rename(self, old: str, new: str, where: str, *, overwrite: bool) -> None:
        """Rename a file, at once for everybody.

        Raises:
            FileExistsError: not ``overwrite``, and there is something.
            ObjectNotFound: there is no such file, or no such directory to move it to.
        """
        with self._calling(where, FileExistsError) as client:
            client.rename(old, new, overwrite)

    def delete(self, path: str, where: str, *, recursive: bool = False) -> bool:
        """Delete a file or directory; whether there was one. Raises StoreRejected for a directory with entries."""
        with self._calling(where) as client:
            return client.delete(path, recursive)

    def close(self) -> None:
        """End the relays. The library's connections end when nothing uses them."""
        with self._lock:
            self._client = None
            for relay in self._relays:
                relay.close()
            self._relays.clear()

    @contextlib.contextmanager
    def _calling(self, where: str, *unmapped: type[Exception]) -> Iterator[Client]:
        """The client, with what it raises turned into errors of ours, but for ``unmapped``."""
        client = self._connected()
        try:
            with mapped(where, self._trouble):
                yield client
        except StoreError as error:
            if isinstance(error.__cause__, unmapped):
                raise error.__cause__ from None
            raise

    def _trouble(self) -> str:
        return "; ".join(relay.trouble for relay in self._relays if relay.trouble)

    def _connected(self) -> Client:
        with self._lock:
            if self._client is None:
                try:
                    from hdfs_native import Client
                except ModuleNotFoundError as error:
                    raise UsageError(
                        "the library 'hdfs-native' is not installed", where=self._config.uri, next_step=INSTALL
                    ) from error
                url, properties = self._reached()
                with mapped(self._config.uri):
                    self._client = Client(url, properties)
            return self._client

    def _reached(self) -> tuple[str, dict[str, str]]:
        """The URL and the settings to open the client with; starts relays where they are needed."""
        hadoop = self._config.hadoop
        found = namenodes(self._config)
        properties = {**_DEFAULTS, **hadoop.properties, **found.properties}
        if hadoop.datanodes:
            properties[_USE_HOSTNAME] = "true"
        elif hadoop.user in ("", ambient_user()):
            return found.url, properties
        url = found.url
        for name, address in found.addresses.items():
            relay = NameNodeRelay(address, hadoop.user, hadoop.datanodes)
            self._relays.append(relay)
            if name:
                properties[name] = relay.address
            else:
                url = f"hdfs://{relay.address}"
        return url, properties


class NameNodes(NamedTuple):
    """What the client is opened with, and the ``addresses`` behind it by the property that names each.

    A NameNode that the URL itself names has no property: an empty name.
    """

    url: str
    properties: dict[str, str]
    addresses: dict[str, tuple[str, int]]

    @property
    def listed(self) -> tuple[tuple[str, int], ...]:
        """Host and port of each."""
        return tuple(self.addresses.values())


def namenodes(config: StoreConfig) -> NameNodes:
    """The NameNodes of a store: one by its address, or those that the properties name for a nameservice.

    Raises:
        UsageError: a nameservice's NameNodes are not all in the properties.
    """
    properties, authority = config.hadoop.properties, config.endpoint_url.removeprefix("hdfs://")
    listed = f"dfs.ha.namenodes.{authority}"
    names = [name.strip() for name in properties.get(listed, "").split(",") if name.strip()]
    if not names:
        host, colon, port = authority.rpartition(":")
        if not colon or not port.isdigit():
            host, port = authority, str(DEFAULT_PORT)
        return NameNodes(f"hdfs://{host}:{port}", {}, {"": (host.strip("[]"), int(port))})
    addresses = {}
    for name in names:
        key = f"dfs.namenode.rpc-address.{authority}.{name}"
        host, _, port = properties.get(key, "").rpartition(":")
        if not host or not port.isdigit():
            raise UsageError(
                f"Hadoop's configuration does not say where the NameNode {name!r} is",
                where=config.uri,
                next_step=f"Set {key} to host:port.",
            )
        addresses[key] = (host, int(port))
    # The library takes blanks in the list for parts of the names.
    return NameNodes(f"hdfs://{authority}", {listed: ",".join(names)}, addresses)


def ambient_user() -> str:
    """Who to be where there is no Kerberos and nobody says so: as the library does it, and Hadoop's own tools."""
    try:
        return os.environ.get("HADOOP_USER_NAME") or getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())  # A container's user may have no name.


def _status(found: object) -> Status:
    # The library has no types for its rows that are worth the name; these are what it documents.
    return Status(found.path, found.length, found.isdir, found.modification_time, found.permission)  # type: ignore[attr-defined]
