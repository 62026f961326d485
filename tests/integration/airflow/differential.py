"""What a stock operator and ours did, made comparable."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pytest
from airflow.exceptions import AirflowProviderDeprecationWarning

from tests.servers.airflow_clouds import Clouds, clouds
from tests.servers.botocore_files import read_once
from tests.servers.kept_dataplane import kept_dataplane

_SEEN = (
    "ContentType",
    "CacheControl",
    "ContentDisposition",
    "ContentLanguage",
    "ContentEncoding",
    "Metadata",
    "StorageClass",
    "ServerSideEncryption",
    "SSEKMSKeyId",
)


@contextlib.contextmanager
def world_of(s3_buckets: list[str], gcs_buckets: list[str], *, versioning: bool = False) -> Iterator[Clouds]:
    """Servers with these buckets, the environment of a worker that reaches them, and one gateway for all transfers."""
    with (
        clouds(s3_buckets, gcs_buckets, versioning=versioning) as found,
        kept_dataplane(),
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in found.environment().items():
            patch.setenv(name, value)
        # With a file, though empty, ours would ask the amazon provider what a connection means.
        patch.setenv("AWS_CONFIG_FILE", "/nowhere")
        read_once(patch)
        yield found


def seen_in_s3(world: Clouds, bucket: str) -> dict[str, Any]:
    """All that can be seen of every object of an S3 bucket."""
    client = world.s3()
    found = {}
    for item in client.list_objects_v2(Bucket=bucket).get("Contents", []):
        told = client.get_object(Bucket=bucket, Key=item["Key"])
        tags = client.get_object_tagging(Bucket=bucket, Key=item["Key"])["TagSet"]
        acl = world.source.head(bucket, item["Key"])["attributes"].get("x-amz-acl", "private")
        found[item["Key"]] = ({name: told.get(name) for name in _SEEN}, tags, acl, told["Body"].read())
    return found


class Did(NamedTuple):
    """What came of one run: what it returned, raised (type and text) and warned of (category and text)."""

    returned: Any
    raised: tuple[type, str] | None
    warned: list[tuple[type, str]]


def run(cls: type, arguments: Mapping[str, Any], destination: str = "", **names: str) -> Did:
    """Construct and execute an operator.

    Args:
        destination: a name that takes the place of ``{dst}`` in all texts of the arguments, and makes room for it again
            in what is told.
        names: the same for others.
    """
    names = {name: value for name, value in {**names, "dst": destination}.items() if value}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        returned = raised = None
        try:
            given = {name: _filled(value, names) for name, value in arguments.items()}
            returned = _emptied(cls(task_id="copy", **given).execute({}), names)
        except Exception as error:  # noqa: BLE001  # whatever the stock operator raises is what is compared
            said = str(error).replace(cls.__name__, cls.__name__.removeprefix("Skyplane"))
            raised = type(error), _emptied(said, names)
    # What libraries warn of is their own affair, and so is what Airflow warns of when it first imports its own modules.
    warned = {
        (w.category, str(w.message))
        for w in caught
        if issubclass(w.category, (AirflowProviderDeprecationWarning, FutureWarning))
        and w.category.__name__ != "DeprecatedImportWarning"
    }
    return Did(returned, raised, sorted(warned, key=str))


def _filled(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, list):
        return [_filled(item, names) for item in value]
    if isinstance(value, str):
        for name, real in names.items():
            value = value.replace(f"{{{name}}}", real)
    return value


def _emptied(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, list):
        return [_emptied(item, names) for item in value]
    if isinstance(value, str):
        for name, real in names.items():
            value = value.replace(real, f"{{{name}}}")
    return value
