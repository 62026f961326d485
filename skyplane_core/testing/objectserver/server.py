"""The object server as tests use it."""

from __future__ import annotations

import collections
import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from skyplane_core.testing.objectserver.core import Config, Core
from skyplane_core.testing.objectserver.faults import Faults
from skyplane_core.testing.objectserver.keyring import Secrets
from skyplane_core.testing.objectserver.process import ChildServer

_HELD_POLL_SECONDS = 0.01
_put_numbers = itertools.count(1)


def default_root() -> str:
    """Memory where the system offers it as files, else the directory for temporary files."""
    shm = "/dev/shm"  # noqa: S108 - a directory of our own is made in it, with a name that nobody can guess
    return shm if os.access(shm, os.W_OK) else tempfile.gettempdir()


class ObjectServer:
    """An object store on loopback that behaves as S3, Google Cloud Storage or Azure Blob Storage do.

    Use it as a context manager, or call :meth:`start` and :meth:`stop`. Once stopped, no thread, process or file of
    it is left.

    Args:
        kind: ``s3``, ``gcs`` or ``azure``.
        buckets: buckets (containers) that exist from the start.
        root: directory for object bytes; a new directory is made in it. None: in /dev/shm, if there is one.
        in_process: serve from threads of this process, else from a child process.
        host, port: where to listen; port 0 takes a free one.
        latency: seconds added to every request.
        bandwidth: bytes per second that each connection may move each way; 0: no limit.
        credentials: access key to secret, or to ``(secret, session token)``; Azure: account to base64 key.
            Signatures are checked if any credentials, ``tokens`` or ``public_keys`` are given.
        tokens: OAuth2 bearer tokens that GCS and Azure accept.
        public_keys: e-mail of a service account to its PEM public key, for RSA-signed URLs of GCS.
        faults: what is to go wrong; see :class:`~skyplane_core.testing.objectserver.Faults`.
        tls: ``(certificate, key)``, two PEM files, to serve HTTPS.
        md5: ETags of S3 are MD5 sums and GCS objects have ``md5Hash``. By default ETags say nothing about the bytes, as
            those of SSE-KMS objects, because MD5 costs more than all the rest together.
        versioning: buckets keep old versions.
        hierarchical: Azure lists as an account with a hierarchical namespace does.
        requester_pays: buckets whose requests have to say that the requester pays.
        public: buckets that anybody may read.
        shortcomings: what a server of kind ``s3`` lacks, and does not call itself by its name then; see
            :data:`~skyplane_core.testing.objectserver.s3.shortcomings.SHORTCOMINGS`.
    """

    def __init__(
        self,
        kind: str = "s3",
        *,
        buckets: Sequence[str] = (),
        root: str | Path | None = None,
        in_process: bool = True,
        host: str = "127.0.0.1",
        port: int = 0,
        latency: float = 0.0,
        bandwidth: float = 0.0,
        credentials: Secrets | None = None,
        tokens: Sequence[str] = (),
        public_keys: Mapping[str, str] | None = None,
        faults: Faults | None = None,
        tls: tuple[str, str] | None = None,
        md5: bool = False,
        versioning: bool = False,
        hierarchical: bool = False,
        requester_pays: Sequence[str] = (),
        public: Sequence[str] = (),
        shortcomings: Sequence[str] = (),
    ) -> None:
        self.kind = kind
        self._root = str(root) if root is not None else default_root()
        self._in_process = in_process
        self._latency = latency
        self._bandwidth = bandwidth
        self._config = Config(
            kind=kind,
            directory="",
            buckets=tuple(buckets),
            host=host,
            port=port,
            latency=latency,
            bandwidth=bandwidth,
            credentials=_plain(credentials),
            tokens=tuple(tokens),
            public_keys=dict(public_keys or {}),
            faults=faults.to_json() if faults is not None else None,
            tls=(str(tls[0]), str(tls[1])) if tls is not None else None,
            md5=md5,
            versioning=versioning,
            hierarchical=hierarchical,
            requester_pays=tuple(requester_pays),
            public=tuple(public),
            shortcomings=tuple(shortcomings),
        )
        self._running: Core | ChildServer | None = None

    def start(self) -> ObjectServer:
        """Serve; returns once connections are accepted."""
        if self._running is not None:
            raise RuntimeError("this object server runs already")
        self._config.directory = tempfile.mkdtemp(prefix="objectserver-", dir=self._root)
        try:
            self._running = Core(self._config) if self._in_process else ChildServer(self._config)
        except BaseException:
            shutil.rmtree(self._config.directory, ignore_errors=True)
            raise
        return self

    def stop(self) -> None:
        """Cut all connections and remove everything that was stored. May be called again."""
        if self._running is not None:
            self._running.stop()
            self._running = None

    def __enter__(self) -> ObjectServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def _server(self) -> Core | ChildServer:
        if self._running is None:
            raise RuntimeError("this object server is not running; use it in a with statement, or call start()")
        return self._running

    def _call(self, name: str, **arguments: Any) -> Any:
        return self._server.call(name, arguments)

    @property
    def endpoint_url(self) -> str:
        """Such as ``http://127.0.0.1:40123``."""
        return self._server.url

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._server.port

    @property
    def pid(self) -> int:
        """The process that serves."""
        server = self._server
        return server.pid if isinstance(server, ChildServer) else os.getpid()

    # What follows works on the server's state, not through HTTP: for set-up, and to see what is really stored.

    def create_bucket(self, bucket: str) -> None:
        """Raises KeyError if it exists."""
        self._call("create_bucket", bucket=bucket)

    def drop_bucket(self, bucket: str) -> None:
        """Remove a bucket and all that is in it, open uploads too. Raises KeyError if it does not exist."""
        self._call("drop_bucket", bucket=bucket)

    def put(
        self,
        bucket: str,
        key: str,
        data: bytes | bytearray | memoryview | Path,
        *,
        attributes: Mapping[str, str] | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Store an object, from memory or from a file; returns what :meth:`head` would.

        ``attributes`` are content headers by their lower-case names, such as ``content-type``.
        """
        path = f"{self._config.directory}/put-{next(_put_numbers)}"
        if isinstance(data, Path):
            shutil.copyfile(data, path)
        else:
            Path(path).write_bytes(data)
        described: dict[str, Any] = self._call(
            "put", bucket=bucket, key=key, path=path, attributes=dict(attributes or {}), metadata=dict(metadata or {})
        )
        return described

    def get(self, bucket: str, key: str) -> bytes:
        """An object's bytes as they lie in the server's files. Raises KeyError."""
        return b"".join(self.chunks(bucket, key))

    def chunks(self, bucket: str, key: str, size: int = 1 << 20) -> Iterator[bytes]:
        """As :meth:`get`, at most ``size`` bytes at a time."""
        # Overwriting the object meanwhile must not put other bytes in the place of these.
        number, pieces = self._call("lend", bucket=bucket, key=key)
        try:
            for path, offset, length in pieces:
                with Path(path).open("rb") as file:
                    file.seek(offset)
                    for done in range(0, length, size):
                        yield file.read(min(size, length - done))
        finally:
            if self._running is not None:
                self._call("return", number=number)

    def head(self, bucket: str, key: str) -> dict[str, Any]:
        """What the server knows about an object. Raises KeyError.

        ``key, size, crc32c, etag, generation, modified, attributes, metadata, checksums, part_sizes``.
        """
        described: dict[str, Any] = self._call("head", bucket=bucket, key=key)
        return described

    def list(self, bucket: str, prefix: str = "") -> list[str]:
        """Keys of the live objects, in order of their UTF-8 bytes."""
        keys: list[str] = self._call("list", bucket=bucket, prefix=prefix)
        return keys

    def delete(self, bucket: str, key: str) -> None:
        """Remove an object and all its versions; no error if there is none."""
        self._call("delete", bucket=bucket, key=key)

    def uploads(self, bucket: str) -> Sequence[tuple[str, str, Sequence[int]]]:
        """Key, id and part numbers of each open multipart upload: what a transfer left behind."""
        return [(key, upload_id, parts) for key, upload_id, parts in self._call("uploads", bucket=bucket)]

    @property
    def statistics(self) -> dict[str, Any]:
        """``requests`` by operation, ``bytes_received``, ``bytes_sent``, ``connections``, ``faults_fired`` by rule."""
        statistics: dict[str, Any] = self._call("statistics")
        return statistics

    @property
    def requests(self) -> collections.Counter[str]:
        """How many requests there were, by operation."""
        return collections.Counter(self.statistics["requests"])

    def set_faults(self, faults: Faults | None) -> None:
        """Put these faults in place of those before; None: nothing goes wrong from now on."""
        self._call("set_faults", faults=(faults or Faults()).to_json())

    def wait_held(self, count: int = 1, seconds: float = 60.0) -> Sequence[tuple[str, str]]:
        """Wait until faults hold ``count`` requests; returns operation and key of those that are held.

        Raises:
            TimeoutError: they have not come in ``seconds``.
        """
        deadline = time.monotonic() + seconds
        while len(held := self._call("held")) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(held)} of {count} requests are held after {seconds:.0f} s")
            time.sleep(_HELD_POLL_SECONDS)
        return [(operation, key) for operation, key in held]

    def release(self) -> None:
        """Let all held requests go on, even where nobody waits for their answer any more."""
        self._call("release")

    def set_credentials(
        self,
        credentials: Secrets | None = None,
        tokens: Sequence[str] = (),
        public_keys: Mapping[str, str] | None = None,
    ) -> None:
        """Accept exactly these from now on; none of them counts as expired."""
        self._call(
            "set_credentials",
            credentials=_plain(credentials),
            tokens=list(tokens),
            public_keys=dict(public_keys or {}),
        )

    def set_network(self, *, latency: float | None = None, bandwidth: float | None = None) -> None:
        """Change latency (seconds) or bandwidth (bytes per second and connection) for the requests from now on."""
        self._latency = self._latency if latency is None else latency
        self._bandwidth = self._bandwidth if bandwidth is None else bandwidth
        self._call("set_network", latency=self._latency, bandwidth=self._bandwidth)


def _plain(credentials: Secrets | None) -> dict[str, str | tuple[str, str]] | None:
    if credentials is None:
        return None
    return {access: value if isinstance(value, str) else (value[0], value[1]) for access, value in credentials.items()}
