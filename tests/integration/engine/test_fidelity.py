"""What of an object's attributes arrives, through real gateways, as the destination server or the disk holds it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from skyplane_core.client import Location, SkyplaneClient
from skyplane_core.errors import TransferFailed, UsageError
from skyplane_core.model import AttributeRules, Credentials, StoreConfig, Unfit
from skyplane_core.spec import Outcome, TransferOptions, Verification
from skyplane_core.testing.objectserver import ObjectServer

MIB = 1024 * 1024
MTIME_NS = 1_484_931_135_123_456_789
At = Callable[..., Location]
SIZES = {"small": 10, "striped": 11 * MIB}
KEYS = list(SIZES)


def options(**rules: Any) -> TransferOptions:
    return TransferOptions(
        part_size=5 * MIB, multipart_threshold=6 * MIB, record_source=False, attributes=AttributeRules(**rules)
    )


@pytest.fixture
def s3_there() -> Iterator[ObjectServer]:
    with ObjectServer("s3", buckets=["dst"], credentials={"AK": "SK"}) as server:
        yield server


def at(server: ObjectServer, key: str) -> Location:
    store = StoreConfig("s3", "dst", endpoint_url=server.endpoint_url, credentials=Credentials("AK", "SK"))
    return Location(store, key)


def fill(server: ObjectServer, attributes: dict[str, str], metadata: dict[str, str]) -> None:
    for key, size in SIZES.items():
        server.put("src", f"p/{key}", os.urandom(size), attributes=attributes, metadata=metadata)


def on_disk(directory: Path) -> Location:
    directory.mkdir(exist_ok=True)
    return Location(StoreConfig("local", str(directory)), "")


def test_tags_class_and_metadata_go_from_s3_to_s3(
    s3: ObjectServer, s3_there: ObjectServer, source: At, either_client: SkyplaneClient
) -> None:
    placed = {"x-amz-tagging": "team=a&b%20c=%C3%BC", "x-amz-storage-class": "STANDARD_IA", "content-type": "text/csv"}
    fill(s3, placed, {"owner": "me", "x-old": "1"})
    rules = options(
        keep_tags=True,
        keep_storage_class=True,
        metadata={"run": "7"},
        metadata_rename={"owner": "made-by"},
        metadata_drop=("x-*",),
    )
    result = either_client.copy(source("p/"), at(s3_there, "q/"), recursive=True, options=rules)
    for key in KEYS:
        described = s3_there.head("dst", f"q/{key}")
        assert placed.items() <= described["attributes"].items(), key
        assert described["metadata"] == {"made-by": "me", "run": "7"}
    assert {line.reason for line in result.lines()} == {next(result.lines()).reason}
    assert "dropped" not in next(result.lines()).reason


def test_without_being_asked_neither_tags_nor_class_are_carried_and_tags_are_not_read(
    s3: ObjectServer, s3_there: ObjectServer, source: At, client: SkyplaneClient
) -> None:
    fill(s3, {"x-amz-tagging": "team=a", "x-amz-storage-class": "STANDARD_IA"}, {})
    client.copy(source("p/"), at(s3_there, "q/"), recursive=True, options=options())
    for key in KEYS:
        assert not [name for name in s3_there.head("dst", f"q/{key}")["attributes"] if name.startswith("x-amz")]
    assert "GetObjectTagging" not in s3.statistics["requests"]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("unfit", Unfit)
def test_metadata_beyond_the_limit_fails_or_is_dropped_and_the_receipt_says_so(
    gcs: ObjectServer, s3_there: ObjectServer, client: SkyplaneClient, unfit: Unfit, key: str
) -> None:
    store = StoreConfig(
        "gcs", "dst", endpoint_url=gcs.endpoint_url, credentials=Credentials(token="destination-canary-token")
    )
    gcs.put("dst", f"p/{key}", os.urandom(SIZES[key]), metadata={"note": "n" * 3000, "A b": "1", "owner": "me"})

    def copy() -> Any:
        return client.copy(Location(store, "p/"), at(s3_there, "q/"), recursive=True, options=options(unfit=unfit))

    if unfit is Unfit.FAIL:
        with pytest.raises(TransferFailed, match="'A b' is no name there"):
            copy()
        assert not [found for found in s3_there.list("dst") if ".skyplane" not in found]
        return
    [line] = copy().lines()
    assert line.outcome is Outcome.COPIED
    assert "'note' dropped for want of room" in line.reason
    kept = {"owner": "me"} | ({"a-b": "1"} if unfit is Unfit.RENAME else {})
    assert s3_there.head("dst", f"q/{key}")["metadata"] == kept


def test_tags_become_metadata_where_there_are_none(
    s3: ObjectServer, gcs: ObjectServer, source: At, destination: At, client: SkyplaneClient
) -> None:
    fill(s3, {"x-amz-tagging": "team=a"}, {})
    with pytest.raises(UsageError, match="no place for tags"):
        client.copy(source("p/"), destination("q/"), recursive=True, options=options(keep_tags=True))
    renamed = options(keep_tags=True, unfit=Unfit.RENAME)
    result = client.copy(source("p/"), destination("q/"), recursive=True, options=renamed)
    assert {gcs.head("dst", f"q/{key}")["metadata"]["tag-team"] for key in KEYS} == {"a"}
    assert all("tags renamed to metadata" in line.reason for line in result.lines())


@pytest.mark.parametrize("kind", ["s3", "gcs"])
def test_a_files_time_and_permissions_come_back_from_a_bucket(
    gcs: ObjectServer, s3_there: ObjectServer, destination: At, tmp_path: Path, either_client: SkyplaneClient, kind: str
) -> None:
    here = on_disk(tmp_path / "here")
    for key, size in SIZES.items():
        path = tmp_path / "here" / key
        path.write_bytes(os.urandom(size))
        path.chmod(0o640)
        os.utime(path, ns=(MTIME_NS, MTIME_NS))
    server, there = (gcs, destination("q/")) if kind == "gcs" else (s3_there, at(s3_there, "q/"))
    keep = options(keep_mode=True, keep_mtime=True)
    either_client.copy(here, there, recursive=True, options=keep)
    expected = {
        "s3": {"mtime": "1484931135.123456789", "mode": "0640"},
        "gcs": {
            "mtime": "2017-01-20T16:52:15.123456789Z",
            "goog-reserved-file-mtime": "1484931135",
            "mode": "0640",
        },
    }
    for key in KEYS:
        assert server.head("dst", f"q/{key}")["metadata"] == expected[kind], key
    either_client.copy(there, on_disk(tmp_path / "back"), recursive=True, options=keep)
    either_client.copy(here, on_disk(tmp_path / "beside"), recursive=True, options=keep)
    either_client.copy(here, on_disk(tmp_path / "plain"), recursive=True, options=options())
    for key in KEYS:
        for directory in ("back", "beside"):
            status = (tmp_path / directory / key).stat()
            assert (status.st_mtime_ns, status.st_mode & 0o7777) == (MTIME_NS, 0o640), (directory, key)
            assert (tmp_path / directory / key).read_bytes() == (tmp_path / "here" / key).read_bytes()
        plain = (tmp_path / "plain" / key).stat()
        assert plain.st_mtime_ns > MTIME_NS
        assert plain.st_mode & 0o777 == 0o666 & ~_umask()
    # What was given another time is still recognised as a copy.
    again = either_client.sync(here, on_disk(tmp_path / "exact"))
    assert again.progress.objects_copied == 2
    assert either_client.sync(here, on_disk(tmp_path / "exact")).progress.objects_copied == 0


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_an_objects_own_time_is_that_of_the_file(
    s3: ObjectServer, source: At, tmp_path: Path, client: SkyplaneClient
) -> None:
    fill(s3, {}, {})
    client.copy(source("p/"), on_disk(tmp_path / "out"), recursive=True, options=options(keep_mtime=True))
    for key in KEYS:
        seen = (tmp_path / "out" / key).stat().st_mtime
        assert abs(seen - s3.head("src", f"p/{key}")["modified"]) < 1


def test_a_file_that_nobody_may_write_is_replaced(tmp_path: Path, client: SkyplaneClient) -> None:
    here, there = on_disk(tmp_path / "here"), on_disk(tmp_path / "there")
    for key, size in SIZES.items():
        (tmp_path / "here" / key).write_bytes(os.urandom(size))
        (tmp_path / "here" / key).chmod(0o400)
    for _ in range(2):
        client.copy(here, there, recursive=True, options=options(keep_mode=True))
    assert {(tmp_path / "there" / key).stat().st_mode & 0o777 for key in KEYS} == {0o400}


@pytest.mark.parametrize(
    ("symlinks", "arrived"), [("follow", {"file", "link", "inside/x", "linked/x"}), ("skip", {"file", "inside/x"})]
)
def test_links_are_followed_or_left_out(
    tmp_path: Path, client: SkyplaneClient, symlinks: str, arrived: set[str]
) -> None:
    here = tmp_path / "here"
    (here / "inside").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    for path in (here / "file", here / "inside" / "x", tmp_path / "outside" / "y"):
        path.write_bytes(b"bytes")
    (here / "link").symlink_to(here / "file")
    (here / "linked").symlink_to(here / "inside")
    (here / "out").symlink_to(tmp_path / "outside")
    (here / "dangling").symlink_to(tmp_path / "nowhere")
    store = StoreConfig("local", str(here), symlinks=symlinks)
    client.copy(Location(store, ""), on_disk(tmp_path / "there"), recursive=True)
    found = {str(path.relative_to(tmp_path / "there")) for path in (tmp_path / "there").rglob("*") if path.is_file()}
    assert {name for name in found if not name.startswith(".skyplane")} == arrived


@pytest.mark.parametrize(("kind", "name"), [("s3", "STANDARD_IA"), ("gcs", "NEARLINE")])
def test_copies_get_the_class_that_is_asked_for_and_the_receipt_does_not(
    s3: ObjectServer,
    gcs: ObjectServer,
    s3_there: ObjectServer,
    source: At,
    destination: At,
    client: SkyplaneClient,
    kind: str,
    name: str,
) -> None:
    fill(s3, {}, {"Größe": "ü"} if kind == "gcs" else {})
    server, there = (gcs, destination("q/")) if kind == "gcs" else (s3_there, at(s3_there, "q/"))
    client.copy(source("p/"), there, recursive=True, options=options(storage_class=name))
    header = "x-goog-storage-class" if kind == "gcs" else "x-amz-storage-class"
    for key in server.list("dst"):
        seen = server.head("dst", key)["attributes"].get(header, "STANDARD")
        assert seen == ("STANDARD" if ".skyplane" in key else name), key


@pytest.mark.parametrize(
    ("rules", "verify", "told"),
    [
        ({"storage_class": "GLACIER"}, "transferred", "Google Cloud Storage has: STANDARD, NEARLINE"),
        ({"storage_class": "NEARLINE", "keep_storage_class": True}, "transferred", "contradict"),
        ({"metadata": {"": "x"}}, "transferred", "'' is no name"),
    ],
)
def test_rules_that_cannot_be_followed_are_refused_before_anything_is_written(
    s3: ObjectServer,
    gcs: ObjectServer,
    source: At,
    destination: At,
    client: SkyplaneClient,
    rules: dict[str, Any],
    verify: str,
    told: str,
) -> None:
    fill(s3, {}, {})
    with pytest.raises(UsageError, match=told):
        client.copy(
            source("p/"),
            destination("q/"),
            recursive=True,
            options=TransferOptions(verify=Verification(verify), attributes=AttributeRules(**rules)),
        )
    assert list(gcs.list("dst")) == []


def test_an_archive_that_would_have_to_be_read_back_is_refused(
    s3: ObjectServer, source: At, s3_there: ObjectServer, client: SkyplaneClient
) -> None:
    fill(s3, {}, {})
    frozen = TransferOptions(verify=Verification.FULL, attributes=AttributeRules(storage_class="GLACIER"))
    with pytest.raises(UsageError, match="could not be read back"):
        client.copy(source("p/"), at(s3_there, "q/"), recursive=True, options=frozen)
    assert list(s3_there.list("dst")) == []
