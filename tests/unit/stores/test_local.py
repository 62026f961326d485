"""A local directory: nothing outside of it is written, and its listing is in order."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest
from awscrt.checksums import crc32c
from hypothesis import given
from hypothesis import strategies as st

from skyplane_core.errors import (
    ChecksumMismatch,
    ObjectNotFound,
    PermissionDenied,
    PreconditionFailed,
    SourceChanged,
    StoreError,
    StoreRejected,
    UploadNotFound,
)
from skyplane_core.model import Attestation, ObjectAttributes, Precondition, StoreConfig, Stored
from skyplane_core.stores.local import LocalStore, open_store
from skyplane_core.stores.local_paths import mapped, path_of

SEGMENTS = st.sampled_from(
    ["a", "a.", "a-", "a0", "..", ".", "", "b", "ü", "漢", "\0", ".skyplane", "uploads", "é\u0301"]
)
KEYS = st.lists(SEGMENTS, min_size=1, max_size=5).map("/".join)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    return path


@pytest.fixture
def store(root: Path) -> LocalStore:
    return open_store(StoreConfig(kind="local", bucket=str(root)))


def put(store: LocalStore, key: str, content: bytes = b"", precondition: Precondition = Precondition()) -> Stored:
    return store.data().put_object(
        key,
        memoryview(content),
        crc32c=crc32c(content),
        attributes=ObjectAttributes(),
        precondition=precondition,
    )


def keys(store: LocalStore, prefix: str = "") -> list[str]:
    return [info.key for info in store.list(prefix)]


@given(KEYS | st.text(max_size=30))
def test_a_path_stays_inside_or_the_key_is_refused(key: str) -> None:
    try:
        path = path_of("/nowhere/root", key, key)
    except StoreRejected:
        return
    assert os.path.normpath(path) == path
    assert path.startswith("/nowhere/root/")
    assert path.removeprefix("/nowhere/root/") == key.removesuffix("/")


@given(st.lists(KEYS, max_size=12), KEYS | st.just(""), KEYS | st.just(""), st.sampled_from(["", "/", "a"]))
def test_a_listing_is_what_an_object_store_would_show(
    names: list[str], prefix: str, start_after: str, delimiter: str
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        store = open_store(StoreConfig(kind="local", bucket=directory))
        stored = set()
        for name in names:
            try:
                put(store, name, b"x" if not name.endswith("/") else b"")
            except StoreError:
                continue
            stored.add(name)
        files = {name for name in stored if not name.endswith("/")}
        empty = {name for name in stored - files if not any(other.startswith(name) for other in stored - {name})}
        wanted = {
            key
            for key in files | empty
            if key.startswith(prefix)
            and key.encode() > start_after.encode()
            and not (delimiter and delimiter in key[len(prefix) :])
            and (not key.startswith(".skyplane/") or prefix.startswith(".skyplane/"))
        }
        found = [info.key for info in store.list(prefix, start_after=start_after, delimiter=delimiter)]
        assert found == sorted(wanted, key=str.encode)


def test_a_link_out_of_the_tree_is_no_way_out(store: LocalStore, root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"x")
    (root / "out").symlink_to(outside)
    for key in ("out/new", "out/deep/new", "out/"):
        with pytest.raises(StoreRejected):
            put(store, key)
        with pytest.raises(StoreRejected):
            store.delete(key)
    with pytest.raises(StoreRejected):
        store.create_upload("out/new", ObjectAttributes())
    assert sorted(path.name for path in outside.iterdir()) == ["secret"]
    assert keys(store) == keys(store, "out/") == []


def test_a_write_replaces_a_link_and_not_what_it_points_to(store: LocalStore, root: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"keep")
    (root / "link").symlink_to(target)
    assert keys(store) == ["link"]
    put(store, "link", b"new")
    assert target.read_bytes() == b"keep"
    assert not (root / "link").is_symlink()


def test_links_inside_the_tree_are_followed_without_loops(store: LocalStore, root: Path) -> None:
    put(store, "d/file", b"x")
    (root / "d" / "loop").symlink_to(root)
    (root / "e").symlink_to(root / "d")
    (root / "dangling").symlink_to(root / "nothing")
    os.mkfifo(root / "pipe")
    assert keys(store) == ["d/file", "e/file"]
    assert keys(store, "e/") == ["e/file"]


def test_a_file_and_a_directory_of_one_name(store: LocalStore) -> None:
    put(store, "a", b"x")
    put(store, "d/f", b"x")
    for key in ("a/b", "d"):
        with pytest.raises(StoreRejected):
            put(store, key, b"y")
    assert keys(store) == ["a", "d/f"]


def test_nothing_is_left_of_a_write_that_failed(store: LocalStore, root: Path) -> None:
    put(store, "a", b"x")
    with pytest.raises(PreconditionFailed):
        put(store, "a", b"y", Precondition(absent=True))
    with pytest.raises(ChecksumMismatch):
        store.data().put_object(
            "b", memoryview(b"y"), crc32c=1, attributes=ObjectAttributes(), precondition=Precondition()
        )
    assert list((root / ".skyplane" / "uploads").iterdir()) == []


def test_a_file_written_in_place_has_changed(store: LocalStore, root: Path) -> None:
    version = put(store, "a", b"first").version
    (root / "a").write_bytes(b"longer now")
    with pytest.raises(SourceChanged):
        store.data().read_into("a", version, 0, memoryview(bytearray(5)))


def test_a_completion_that_was_interrupted_after_its_rename(store: LocalStore, root: Path) -> None:
    upload = store.create_upload("a", ObjectAttributes())
    part = store.data().put_part("a", upload, 1, 0, memoryview(b"bytes"), crc32c=crc32c(b"bytes"))
    (root / ".skyplane/uploads" / upload / "object").rename(root / "a")
    stored = store.complete_upload("a", upload, [part], size=5, crc32c=crc32c(b"bytes"), precondition=Precondition())
    assert stored.attestation is Attestation.READ_BACK
    assert list(store.list_uploads()) == []


@pytest.mark.parametrize("boot", ["another start of the machine", ""])
def test_bytes_that_a_power_cut_took_are_found(store: LocalStore, root: Path, boot: str) -> None:
    upload = store.create_upload("a", ObjectAttributes())
    part = store.data().put_part("a", upload, 1, 0, memoryview(b"bytes"), crc32c=crc32c(b"bytes"))
    directory = root / ".skyplane/uploads" / upload
    (directory / "object").write_bytes(b"\0" * 5)
    (directory / "boot").write_text(boot)
    with pytest.raises(ChecksumMismatch):
        store.complete_upload("a", upload, [part], size=5, crc32c=crc32c(b"bytes"), precondition=Precondition())
    assert keys(store) == []


@pytest.mark.parametrize("striped", [True, False])
def test_bytes_that_the_operating_system_took_as_others_are_found(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, striped: bool
) -> None:
    content = memoryview(os.urandom(1_300_000))
    upload = store.create_upload("a", ObjectAttributes())
    real = os.pwrite

    def misplaced(descriptor: int, data: memoryview, offset: int) -> int:
        return real(descriptor, data, offset + (offset > 1_000_000))

    monkeypatch.setattr(os, "pwrite", misplaced)
    with pytest.raises(ChecksumMismatch, match="reads back differently"):
        if striped:
            store.data().put_part("a", upload, 1, 0, content, crc32c=crc32c(content))
        else:
            put(store, "a", bytes(content))
    assert keys(store) == []


@pytest.mark.parametrize("upload", ["", "../..", "x" * 32, "0" * 32, "a/../" + "0" * 32])
def test_an_upload_id_is_no_path(store: LocalStore, upload: str) -> None:
    with pytest.raises(UploadNotFound):
        store.data().put_part("a", upload, 1, 0, memoryview(b"x"), crc32c=crc32c(b"x"))
    store.abort_upload("a", upload)


def test_the_state_below_the_reserved_segment_can_be_listed_by_name(store: LocalStore) -> None:
    put(store, ".skyplane/run/journal", b"x")
    put(store, "a", b"x")
    store.create_upload("b", ObjectAttributes())
    assert keys(store) == ["a"]
    assert keys(store, ".skyplane/uploads/") == []
    assert keys(store, ".skyplane/") == [".skyplane/run/journal"]
    with pytest.raises(StoreRejected):
        put(store, ".skyplane/uploads/x", b"x")


def test_a_deletion_takes_the_directories_that_it_empties(store: LocalStore, root: Path) -> None:
    put(store, "a/b/c", b"x")
    put(store, "a/d", b"x")
    store.delete("a/b/c")
    assert keys(store) == ["a/d"]
    store.delete("a/d")
    assert sorted(path.name for path in root.iterdir()) == [".skyplane"]


@pytest.mark.parametrize(
    "number", [errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOENT, errno.ENOTDIR]
)
def test_what_a_person_can_mend_comes_with_a_next_step(number: int) -> None:
    with pytest.raises(StoreError) as caught, mapped("/d/k"):
        raise OSError(number, os.strerror(number))
    assert caught.value.next_step
    assert errno.errorcode[number] in caught.value.why


def test_what_is_not_there_comes_with_a_next_step(store: LocalStore) -> None:
    with pytest.raises(ObjectNotFound, match="does not exist") as caught:
        store.head("a")
    assert "recursive" in caught.value.next_step


def test_what_is_no_regular_file_is_called_so(store: LocalStore, root: Path) -> None:
    os.mkfifo(root / "pipe")
    (root / "directory").mkdir()
    for key in ("pipe", "directory"):
        with pytest.raises(ObjectNotFound, match=f"not a regular file.*{key}") as caught:
            store.head(key)
        assert caught.value.next_step


def test_a_directory_that_may_not_be_read(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PermissionDenied) as caught:
        store.probe()
    assert caught.value.next_step
