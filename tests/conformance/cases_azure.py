"""Azure servers under the suite: ours, also as one with a hierarchical namespace, and Azurite, which is Microsoft's."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec

from skyplane_core.errors import PermissionDenied, UploadNotFound
from skyplane_core.model import Credentials, StoreConfig
from tests.conformance.store_case import ATTRIBUTES, Feature, Gap, Running, StoreCase, Unavailable

ACCOUNT = "account"
KEY = base64.b64encode(b"k" * 32).decode()
WRONG_KEY = base64.b64encode(b"w" * 32).decode()


def _distrust(config: StoreConfig) -> StoreConfig:
    return msgspec.structs.replace(config, credentials=Credentials(config.credentials.access_key, WRONG_KEY))


@contextlib.contextmanager
def _object_server(*, hierarchical: bool) -> Iterator[Running]:
    from skyplane_core.testing.objectserver import ObjectServer

    with ObjectServer("azure", credentials={ACCOUNT: KEY}, hierarchical=hierarchical) as server:

        def make_bucket(name: str) -> StoreConfig:
            server.create_bucket(name)
            return StoreConfig(
                kind="azure",
                bucket=f"{ACCOUNT}/{name}",
                endpoint_url=server.endpoint_url,
                credentials=Credentials(ACCOUNT, KEY),
            )

        yield Running(make_bucket, _distrust)


def object_server(path: Path) -> contextlib.AbstractContextManager[Running]:
    return _object_server(hierarchical=False)


def hierarchical_object_server(path: Path) -> contextlib.AbstractContextManager[Running]:
    return _object_server(hierarchical=True)


@contextlib.contextmanager
def azurite(path: Path) -> Iterator[Running]:
    from tests.servers.azurite import ACCOUNT, KEY, MissingError, running

    try:
        server = running(path)
        with server as endpoint_url:

            def make_bucket(name: str) -> StoreConfig:
                from azure.storage.blob import ContainerClient

                ContainerClient(
                    f"{endpoint_url}/{ACCOUNT}", name, credential={"account_name": ACCOUNT, "account_key": KEY}
                ).create_container()
                return StoreConfig(
                    kind="azure",
                    bucket=f"{ACCOUNT}/{name}",
                    endpoint_url=endpoint_url,
                    credentials=Credentials(ACCOUNT, KEY),
                )

            yield Running(make_bucket, _distrust)
    except MissingError as missing:
        raise Unavailable(str(missing)) from missing


_DOT = "Azure drops a dot at the end of a segment, so that it would be another blob"
_CONTROL = "Azure takes no control characters"
_REFUSED = {
    "tab\there": _CONTROL,
    "line\nfeed": _CONTROL,
    "control\x01": _CONTROL,
    "quote'\"<&>;:@,$!*()[]{}|\\^`~=": "Azure makes a slash of a backslash",
    "a/../b": _DOT,
    "a/./b": _DOT,
    "../up": _DOT,
    "./here": _DOT,
    "dots...": _DOT,
}
_GAPS = {
    Feature.STORAGE_CLASS: Gap("access tiers are not set"),
    Feature.TAGS: Gap("index tags are not set"),
    Feature.ABORTED_PART: Gap("a block is put by its blob's name alone"),
    Feature.PART_REPLACED: Gap("other bytes are another block"),
    Feature.UPLOAD_SURVIVES_WRITES: Gap("any write of a blob drops the blocks that wait there", UploadNotFound),
    Feature.UPLOAD_SURVIVES_DELETES: Gap("a deletion drops them, too", UploadNotFound),
    Feature.UPLOAD_SURVIVES_COMMITS: Gap("a commit drops the blocks that it does not name", UploadNotFound),
}
_ATTRIBUTES = msgspec.structs.replace(
    ATTRIBUTES, metadata={name.replace("-", "_"): value for name, value in ATTRIBUTES.metadata.items()}
)


_EMPTY = dict.fromkeys(("double//slash", "/leading", "//"), "a hierarchical namespace drops empty segments")


def _case(
    name: str,
    start: Callable[[Path], contextlib.AbstractContextManager[Running]],
    refused: Mapping[str, str] = _REFUSED,
    gaps: Mapping[Feature, Gap] = _GAPS,
) -> StoreCase:
    return StoreCase(name, start, gaps=gaps, refused_keys=refused, attributes=_ATTRIBUTES, large_part=1024 * 1024)


_AZURITE_GAPS = {
    **{feature: gap for feature, gap in _GAPS.items() if feature is not Feature.UPLOAD_SURVIVES_WRITES},
    Feature.CREDENTIALS: Gap("it answers AuthorizationFailure, as for a missing right", PermissionDenied),
}

CASES = [
    _case("azure-objectserver", object_server),
    _case("azure-hierarchical", hierarchical_object_server, refused={**_REFUSED, **_EMPTY}),
    _case("azure-azurite", azurite, gaps=_AZURITE_GAPS),
]
