"""Where a transfer begins and ends: a store with its credentials, and a key or prefix in it."""

from __future__ import annotations

import itertools
import os
import posixpath
from collections.abc import Sequence
from pathlib import Path

import msgspec

from skyplane_core.errors import UsageError
from skyplane_core.model import Credentials, StoreConfig
from skyplane_core.selection import tree_root
from skyplane_core.store_options import StoreOptions
from skyplane_core.stores.hdfs_resolve import divide, environment
from skyplane_core.stores.s3_services import place_of
from skyplane_core.uri import Endpoint, locate, parse


class Location(msgspec.Struct, frozen=True):
    """One end of a transfer: an open-able store, and an object's key or a prefix."""

    store: StoreConfig
    key: str

    @property
    def uri(self) -> str:
        """For messages."""
        return self.store.object_uri(self.key)


def resolve(
    text: str, *, options: StoreOptions = StoreOptions(), directory: bool = False, written: bool = False
) -> Location:
    """The location that ``text`` names, with the environment's credentials for it.

    Args:
        text: a URI or a local path, see :func:`skyplane_core.uri.parse`.
        options: how the store is reached and written.
        directory: a path in a file system that does not exist is to be a directory.
        written: it is a destination.

    Raises:
        InvalidURI: not a URI of ours.
        UsageError: the store's SDK is not installed, or it does not take the options.
        StoreError: the NameNode of HDFS does not say whether a path is a directory.
    """
    endpoint = parse(text, cwd=str(Path.cwd()))
    options.check(endpoint.kind, text, written=written)
    if endpoint.kind == "local":
        endpoint = locate(endpoint, directory=directory or Path(endpoint.key).is_dir())
        return Location(options.applied(StoreConfig("local", os.path.realpath(endpoint.bucket))), endpoint.key)
    if endpoint.kind == "hdfs":
        return Location(*divide(endpoint, environment(), directory=directory))
    return Location(options.applied(_config(endpoint, options)), endpoint.key)


def _config(endpoint: Endpoint, options: StoreOptions) -> StoreConfig:
    endpoint_url = options.endpoint_url or endpoint.endpoint_url
    credentials = Credentials() if options.anonymous else None
    try:
        if endpoint.kind == "s3":
            from skyplane_core.stores import s3

            place = place_of(
                endpoint.service,
                where=endpoint.uri,
                endpoint_url=endpoint_url,
                region=options.region,
                account=options.account,
                environ=os.environ,
            )
            found = s3.resolve(
                endpoint.bucket, endpoint_url=place.endpoint_url, region=place.region, credentials=credentials
            )
            return msgspec.structs.replace(found, service=endpoint.service)
        if endpoint.kind == "azure":
            from skyplane_core.stores import azure

            return azure.resolve(endpoint.bucket, endpoint_url=endpoint_url, credentials=credentials)
        from skyplane_core.stores import gcs

        return gcs.resolve(endpoint.bucket, endpoint_url=endpoint_url, project=options.project, credentials=credentials)
    except ModuleNotFoundError as error:
        extra = {"s3": "amazon", "gcs": "google", "azure": "azure"}[endpoint.kind]
        raise UsageError(
            f"the library {error.name!r} is not installed",
            where=endpoint.uri,
            next_step=f"Install it with: pip install 'airflow-provider-skyplane[{extra}]'",
        ) from error


def same_store(one: StoreConfig, other: StoreConfig) -> bool:
    """Whether both configs name the same bucket of the same service, whatever the credentials."""
    return (one.kind, one.bucket, one.endpoint_url.rstrip("/")) == (
        other.kind,
        other.bucket,
        other.endpoint_url.rstrip("/"),
    )


def in_one_tree(one: StoreConfig, other: StoreConfig) -> bool:
    """Whether both are directories of the same file system, one of which may lie in the other."""
    return one.kind == other.kind and one.kind in ("local", "hdfs") and one.endpoint_url == other.endpoint_url


def check_apart(source: Location, destination: Location, *, recursive: bool, destination_key: str = "") -> None:
    """Refuse a transfer onto itself, or of a tree into itself, which would copy its own copies.

    Raises:
        UsageError: naming both ends.
    """
    found = _beside(source, Location(destination.store, destination_key or destination.key), recursive=recursive)
    if found is None:
        return
    here, there = found
    if here == there:
        raise UsageError("source and destination are the same", where=source.uri, next_step="Name another destination.")
    if recursive and there.startswith(here):
        raise UsageError(
            "the destination lies inside the source",
            where=f"{source.uri} -> {destination.uri}",
            next_step="Name a destination outside of the source's prefix.",
        )


def check_distinct(destinations: Sequence[Location], *, recursive: bool) -> None:
    """Refuse destinations of one source of which two are the same, or one tree lies inside another.

    Raises:
        UsageError: naming both.
    """
    for one, other in itertools.combinations(destinations, 2):
        found = _beside(one, other, recursive=recursive)
        if found is None:
            continue
        here, there = found
        if here == there:
            raise UsageError("the same destination twice", where=other.uri, next_step="Name it once.")
        if recursive and (here.startswith(there) or there.startswith(here)):
            inner, outer = (one, other) if here.startswith(there) else (other, one)
            raise UsageError(
                "one destination lies inside another",
                where=f"{inner.uri} in {outer.uri}",
                next_step="Name destinations that are apart.",
            )


def _beside(one: Location, other: Location, *, recursive: bool) -> tuple[str, str] | None:
    """Both as comparable names (of trees, with a slash at the end) if they are in one store or file system."""
    if in_one_tree(one.store, other.store):
        names = tuple(posixpath.join(end.store.bucket, end.key) for end in (one, other))
    elif same_store(one.store, other.store):
        names = (one.key, other.key)
    else:
        return None
    here, there = (tree_root(name) if recursive else name for name in names)
    return here, there
