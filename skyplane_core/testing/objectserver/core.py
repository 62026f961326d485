"""One running server as an object: state, protocol and listener together, and the calls that tests make on them.

Arguments and results of these calls are plain JSON values, so that a server in another process is driven by the
very same calls, one JSON line each (:mod:`skyplane_core.testing.objectserver.process`). Object bytes pass as files.
"""

# ruff: noqa: D102 - the do_ methods are what ObjectServer documents under the same names.
from __future__ import annotations

import dataclasses
import itertools
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from skyplane_core.testing.objectserver.azure.protocol import AzureProtocol
from skyplane_core.testing.objectserver.blobs import Blob, BlobWriter
from skyplane_core.testing.objectserver.checksums import encode
from skyplane_core.testing.objectserver.faults import Faults
from skyplane_core.testing.objectserver.gcs.protocol import GcsProtocol
from skyplane_core.testing.objectserver.keyring import Keyring
from skyplane_core.testing.objectserver.listener import Listener
from skyplane_core.testing.objectserver.messages import ApiError, StoreProtocol
from skyplane_core.testing.objectserver.s3.protocol import S3Protocol
from skyplane_core.testing.objectserver.state import State, StoredObject

PROTOCOLS: dict[str, Callable[[State, Keyring], StoreProtocol]] = {
    "s3": S3Protocol,
    "gcs": GcsProtocol,
    "azure": AzureProtocol,
}
"""Every kind of server."""


@dataclasses.dataclass
class Config:
    """Everything that a server is told at birth; see :class:`~skyplane_core.testing.objectserver.ObjectServer`.

    ``directory`` exists, belongs to this server alone and is removed when it stops.
    """

    kind: str
    directory: str
    buckets: Sequence[str] = ()
    host: str = "127.0.0.1"
    port: int = 0
    latency: float = 0.0
    bandwidth: float = 0.0
    credentials: dict[str, str | tuple[str, str]] | None = None
    tokens: Sequence[str] = ()
    public_keys: dict[str, str] | None = None
    faults: dict[str, Any] | None = None
    tls: tuple[str, str] | None = None
    md5: bool = False
    versioning: bool = False
    hierarchical: bool = False
    requester_pays: Sequence[str] = ()
    public: Sequence[str] = ()
    shortcomings: Sequence[str] = ()


class Core:
    """Starts serving when it is made."""

    def __init__(self, config: Config) -> None:
        if config.kind not in PROTOCOLS:
            raise ValueError(f"{config.kind!r} is no kind of object server; there are: {', '.join(PROTOCOLS)}")
        self._directory = config.directory
        self._loans: dict[int, Blob] = {}
        self._loan_numbers = itertools.count(1)
        self._state = State(
            config.directory,
            versioning=config.versioning,
            md5=config.md5,
            requester_pays=config.requester_pays,
            public=config.public,
            hierarchical=config.hierarchical,
        )
        for name in config.buckets:
            self._state.create_bucket(name)
        self._keyring = Keyring(config.credentials, config.tokens, config.public_keys)
        if config.shortcomings:
            protocol: StoreProtocol = S3Protocol(self._state, self._keyring, config.shortcomings)
        else:
            protocol = PROTOCOLS[config.kind](self._state, self._keyring)
        self._listener = Listener(
            protocol,
            host=config.host,
            port=config.port,
            latency=config.latency,
            bandwidth=config.bandwidth,
            faults=Faults.from_json(config.faults) if config.faults else None,
            tls=config.tls,
        )
        self.url = self._listener.url
        self.port = self._listener.address[1]

    def stop(self) -> None:
        """Close all connections and remove all files. May be called again."""
        self._listener.stop()
        self._state.arena.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def call(self, name: str, arguments: dict[str, Any]) -> Any:
        """Carry out one of the ``do_`` methods. Raises KeyError for what is not there."""
        try:
            return getattr(self, f"do_{name}")(**arguments)
        except ApiError as error:
            raise KeyError(str(error)) from error

    def do_create_bucket(self, bucket: str) -> None:
        self._state.create_bucket(bucket)

    def do_drop_bucket(self, bucket: str) -> None:
        self._state.drop_bucket(bucket)

    def do_put(
        self, bucket: str, key: str, path: str, attributes: dict[str, str], metadata: dict[str, str]
    ) -> dict[str, Any]:
        """Store the bytes of the file at ``path`` as an object; the file is removed."""
        writer = BlobWriter(self._state.arena, (), Path(path).stat().st_size)
        with Path(path).open("rb", buffering=0) as source:
            while got := source.readinto(writer.space()):
                writer.commit(got)
        Path(path).unlink()
        blob = writer.finish()
        checksums = {"CRC64NVME": encode(blob.digest("CRC64NVME"))}
        stored = self._state.new_object(key, blob, attributes=attributes, metadata=metadata, checksums=checksums)
        self._state.bucket(bucket).put(stored)
        return _described(stored)

    def do_lend(self, bucket: str, key: str) -> tuple[int, list[tuple[str, int, int]]]:
        """Hold an object's bytes until :meth:`do_return` gets this number; path, offset, size of each piece."""
        blob = self._find(bucket, key).blob
        number = next(self._loan_numbers)
        self._loans[number] = blob
        pieces = [(piece.cell.path, piece.cell.start + piece.offset, piece.size) for piece in blob.pieces]
        return number, pieces

    def do_return(self, number: int) -> None:
        self._loans.pop(number, None)

    def do_head(self, bucket: str, key: str) -> dict[str, Any]:
        return _described(self._find(bucket, key))

    def do_list(self, bucket: str, prefix: str) -> list[str]:
        return [stored.key for stored in self._state.bucket(bucket).objects(prefix)]

    def do_delete(self, bucket: str, key: str) -> None:
        self._state.bucket(bucket).delete(key)

    def do_uploads(self, bucket: str) -> list[tuple[str, str, list[int]]]:
        """Key, id and part numbers of each open upload."""
        with self._state.lock:
            uploads = self._state.bucket(bucket).uploads.values()
            return [(upload.key, upload.id, sorted(upload.parts)) for upload in uploads]

    def do_statistics(self) -> dict[str, Any]:
        listener = self._listener
        return {
            "requests": dict(listener.requests),
            "bytes_received": listener.bytes_received,
            "bytes_sent": listener.bytes_sent,
            "connections": listener.connections,
            "faults_fired": listener.faults.fired,
        }

    def do_held(self) -> list[tuple[str, str]]:
        return self._listener.held

    def do_release(self) -> None:
        self._listener.release()

    def do_set_faults(self, faults: dict[str, Any]) -> None:
        self._listener.faults = Faults.from_json(faults)

    def do_set_credentials(
        self, credentials: dict[str, str | tuple[str, str]] | None, tokens: Sequence[str], public_keys: dict[str, str]
    ) -> None:
        self._keyring.replace(credentials, tokens, public_keys)

    def do_set_network(self, latency: float, bandwidth: float) -> None:
        self._listener.latency = latency
        self._listener.bandwidth = bandwidth

    def _find(self, bucket: str, key: str) -> StoredObject:
        stored = self._state.bucket(bucket).current(key)
        if stored is None:
            raise KeyError(f"no object {key!r} in {bucket!r}")
        return stored


def _described(stored: StoredObject) -> dict[str, Any]:
    return {
        "key": stored.key,
        "size": stored.blob.size,
        "crc32c": stored.blob.crc32c,
        "etag": stored.etag,
        "generation": stored.generation,
        "modified": stored.modified,
        "attributes": stored.attributes,
        "metadata": stored.metadata,
        "checksums": stored.checksums,
        "part_sizes": list(stored.part_sizes),
    }
