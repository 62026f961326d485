"""Endpoints: what a user types, as a value. Pure: no file system, no environment, no working directory.

A key is everything after the bucket's ``/``, byte for byte. Nothing is unquoted and there are no query strings or
fragments: ``?``, ``#``, ``%``, ``+``, spaces, ``//`` and a leading ``/`` are characters of the key. Only an ``https://``
address of Azure is read as the web reads one: percent-decoded, and without a query.
"""

from __future__ import annotations

import posixpath
import re

import msgspec

from skyplane_core.errors import InvalidURI
from skyplane_core.uri_azure import from_authority, from_path, from_web_address, is_web_host

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(//)?")
_KINDS = {"s3": "s3", "gs": "gcs", "r2": "s3", "cos": "s3"}
_SCHEMES = {"s3": "s3", "gcs": "gs", "azure": "az"}
_SERVICES = ("r2", "cos")
_AZURE_PATHS = frozenset({"az", "azure"})
_AZURE_AUTHORITIES = frozenset({"abfs", "abfss", "wasb", "wasbs"})
_MISSPELT = {"gcs": "gs", "s3a": "s3", "s3n": "s3"}
_LATER = {
    "scp": "Samsung Cloud",
}
_HOSTS = {"storage.googleapis.com": "gs", "storage.cloud.google.com": "gs", ".amazonaws.com": "s3"}
_SERVICE_HOSTS = {
    "r2": re.compile(r"[0-9a-f]{32}(\.(eu|fedramp))?\.r2\.cloudflarestorage\.com"),
    "cos": re.compile(r"s3\.((private|direct)\.)?[a-z0-9-]+\.cloud-object-storage\.appdomain\.cloud"),
}
_KNOWN = frozenset({"file", "hdfs", *_KINDS, *_AZURE_PATHS, *_AZURE_AUTHORITIES, *_MISSPELT, *_LATER})
_SUPPORTED = (
    "Write s3://bucket/key, gs://bucket/key, az://account/container/key, hdfs://namenode/path, file:///absolute/path "
    "or a local path."
)
_AUTHORITY = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?")


class Endpoint(msgspec.Struct, frozen=True):
    """One end of a transfer.

    ``kind`` is ``s3``, ``gcs``, ``azure``, ``hdfs`` or ``local``. ``bucket`` and ``key`` are those of the store; on
    Azure the bucket is ``account/container``. An endpoint in a file system (``local``, ``hdfs``) that comes from
    :func:`parse` has an empty bucket and the absolute path as its key, until :func:`locate` divides it. ``service`` is
    ``r2`` or ``cos`` for those, which are of kind ``s3``, and ``endpoint_url`` their address where the URI named it; of
    HDFS, ``hdfs://`` and the NameNode or nameservice.
    """

    kind: str
    bucket: str
    key: str
    service: str = ""
    endpoint_url: str = ""

    @property
    def uri(self) -> str:
        """The endpoint as a user would type it, for messages."""
        if self.kind == "local":
            return f"file://{posixpath.join(self.bucket, self.key)}"
        if self.kind == "hdfs":
            return f"{self.endpoint_url}{posixpath.join(self.bucket, self.key)}"
        if self.endpoint_url:
            return f"{self.endpoint_url}/{self.bucket}/{self.key}"
        return f"{self.service or _SCHEMES[self.kind]}://{self.bucket}/{self.key}"


def parse(text: str, *, cwd: str = "") -> Endpoint:
    """The endpoint that ``text`` names.

    Args:
        text: ``s3://bucket[/key]``, ``gs://bucket[/key]``, ``r2://bucket[/key]``, ``cos://bucket[/key]``, the https
            address of an R2 or IBM COS bucket, ``az://account/container[/key]`` (or any other address of Azure Blob
            Storage, see :mod:`skyplane_core.uri_azure`), ``hdfs://namenode[:port][/path]``,
            ``hdfs://nameservice[/path]``, ``file:///path``, or a local path.
        cwd: the absolute directory that a relative path starts from; empty refuses relative paths.

    Raises:
        InvalidURI: it names nothing that we can open; the message says what to write instead.
    """
    _check_text(text)
    match = _SCHEME.match(text)
    if match is None:
        word, slashes, rest = text.partition("//")
        if slashes and word.lower() in _KNOWN:
            raise InvalidURI(
                f"the colon is missing after {word}",
                where=text,
                next_step=f"Write {word}://{rest}, or ./{text} for a local path.",
            )
        return _local(text, text, cwd)
    scheme, slashes, rest = match[1].lower(), match[2], text[match.end() :]
    if not slashes:
        if scheme in _KNOWN:
            raise InvalidURI(f"{scheme}: must be followed by //", where=text, next_step=_SUPPORTED)
        return _local(text, text, cwd)
    return _named(text, scheme, rest)


def locate(endpoint: Endpoint, *, directory: bool) -> Endpoint:
    """Divide a file system's endpoint into the store's root directory (``bucket``) and a key; others stay as they are.

    Args:
        endpoint: as :func:`parse` returns it.
        directory: the path is a directory, or must become one. Only the file system (for a source) or the caller
            (for the destination of a tree) knows that; a path that ends in ``/`` or ``/..`` is one anyway.
    """
    if endpoint.kind not in ("local", "hdfs") or endpoint.bucket:
        return endpoint
    path = endpoint.key
    parent, _, name = path.rpartition("/")
    if directory or name in ("", ".."):
        parent, name = path.rstrip("/"), ""
    return Endpoint(endpoint.kind, parent or "/", name, endpoint_url=endpoint.endpoint_url)


def _named(text: str, scheme: str, rest: str) -> Endpoint:
    if scheme == "file":
        return _file(text, rest)
    if scheme in _AZURE_PATHS:
        return Endpoint("azure", *from_path(text, scheme, rest))
    if scheme in _AZURE_AUTHORITIES:
        return Endpoint("azure", *from_authority(text, scheme, rest))
    if scheme == "hdfs":
        return _hdfs(text, rest)
    if scheme in ("http", "https"):
        if is_web_host(rest):
            return Endpoint("azure", *from_web_address(text, rest))
        return _web(text, scheme, rest)
    if scheme in _LATER:
        raise _not_yet(text, f"{scheme}:// ({_LATER[scheme]})")
    if scheme in _MISSPELT:
        right = _MISSPELT[scheme]
        raise InvalidURI(f"unknown scheme {scheme}://", where=text, next_step=f"Write {right}://{rest}")
    if scheme not in _KINDS:
        raise InvalidURI(f"unknown scheme {scheme}://", where=text, next_step=_SUPPORTED)
    return _bucket(text, scheme, rest)


def _check_text(text: str) -> None:
    if not text:
        raise InvalidURI("the URI is empty", next_step=_SUPPORTED)
    if "\0" in text:
        raise InvalidURI("a NUL character cannot be part of a URI", where=text.replace("\0", "\\0"))
    try:
        text.encode()
    except UnicodeEncodeError:
        shown = text.encode("utf-8", "backslashreplace").decode()
        raise InvalidURI(
            "the URI is not valid UTF-8", where=shown, next_step="Object keys are UTF-8; rename the file first."
        ) from None


def _bucket(text: str, scheme: str, rest: str) -> Endpoint:
    bucket, _, key = rest.partition("/")
    if not bucket:
        raise InvalidURI("the bucket name is missing", where=text, next_step=f"Write {scheme}://bucket/key.")
    if bucket.startswith("arn:"):
        raise InvalidURI(
            "ARNs are not bucket names", where=text, next_step="Use the access point's alias as the bucket name."
        )
    bad = re.search(r"[\s\x00-\x1f\x7f?#%@\\]", bucket)
    if bad is not None:
        raise InvalidURI(
            f"a bucket name cannot contain {bad[0]!r}", where=text, next_step=f"Write {scheme}://bucket/key."
        )
    return Endpoint(_KINDS[scheme], bucket, key, scheme if scheme in _SERVICES else "")


def _file(text: str, rest: str) -> Endpoint:
    host, slash, _ = rest.partition("/")
    if host not in ("", "localhost"):
        raise InvalidURI(
            f"file:// names the machine {host!r}", where=text, next_step=f"Write file:///{rest} with three slashes."
        )
    if not slash:
        raise InvalidURI("the path is missing", where=text, next_step="Write file:///absolute/path.")
    return _local(text, rest[len(host) :], "")


def _hdfs(text: str, rest: str) -> Endpoint:
    authority, _, path = rest.partition("/")
    right = "Write hdfs://namenode:8020/path, or hdfs://nameservice/path with Hadoop's configuration."
    if not authority:
        raise InvalidURI("the NameNode is missing", where=text, next_step=right)
    match = _AUTHORITY.fullmatch(authority)
    if match is None or not 0 < int(match[2] or 8020) < 65536:
        raise InvalidURI(f"{authority!r} is no NameNode's address", where=text, next_step=right)
    if ".." in path.split("/"):
        raise InvalidURI("HDFS has no '..' in a path", where=text, next_step="Write the whole path.")
    return Endpoint("hdfs", "", _normal(f"/{path}"), endpoint_url=f"hdfs://{authority}")


def _local(text: str, path: str, cwd: str) -> Endpoint:
    if path == "~" or path.startswith("~/"):
        raise InvalidURI("~ is expanded by a shell only", where=text, next_step="Write the whole path.")
    if not path.startswith("/"):
        if not cwd.startswith("/"):
            raise InvalidURI(
                "a relative path has no meaning here",
                where=text,
                next_step="Write the absolute path, or the whole URI, such as s3://bucket/key.",
            )
        path = f"{cwd}/{path}"
    return Endpoint("local", "", _normal(path))


def _normal(path: str) -> str:
    # ".." stays: what it means depends on symbolic links, so only the file system can take it away.
    segments = [segment for segment in path.split("/") if segment not in ("", ".")]
    end = "/" if segments and path.endswith(("/", "/.")) else ""
    return f"/{'/'.join(segments)}{end}"


def _web(text: str, scheme: str, rest: str) -> Endpoint:
    host = rest.partition("/")[0].lower()
    for service, pattern in _SERVICE_HOSTS.items():
        if scheme == "https" and pattern.fullmatch(host):
            found = _bucket(text, service, rest.partition("/")[2])
            return msgspec.structs.replace(found, endpoint_url=f"https://{host}")
    raise _no_store(text, rest)


def _no_store(text: str, rest: str) -> InvalidURI:
    host = re.split("[/:]", rest, maxsplit=1)[0].lower()
    if host.endswith(".r2.cloudflarestorage.com"):
        return InvalidURI(
            "not the address of an R2 bucket",
            where=text,
            next_step="Write https://ACCOUNT.r2.cloudflarestorage.com/bucket/key, with the account's 32 hexadecimal "
            "digits, or r2://bucket/key.",
        )
    for known, scheme in _HOSTS.items():
        if host == known or (known.startswith(".") and host.endswith(known)):
            return InvalidURI(
                "a web address is not a store", where=text, next_step=f"Write {scheme}://bucket/key instead."
            )
    return InvalidURI(
        "a web address is not a store",
        where=text,
        next_step="Write s3://bucket/key or az://account/container/key, and give the address of a server that speaks "
        "that store's protocol as its endpoint URL.",
    )


def _not_yet(text: str, what: str) -> InvalidURI:
    return InvalidURI(f"{what} is not supported yet", where=text, next_step=_SUPPORTED)
