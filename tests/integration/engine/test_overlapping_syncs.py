"""The same sync twice at once, by engines that know nothing of each other, while the source changes."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from skyplane_core.client import ClientConfig, Location, SkyplaneClient
from skyplane_core.errors import TransferFailed
from skyplane_core.model import Credentials, StoreConfig
from skyplane_core.spec import Compare, Progress, TransferOptions
from skyplane_core.testing.objectserver import Fault, Faults, ObjectServer

MIB = 1024 * 1024
At = Callable[..., Location]
SMALL = [f"p/small/{number:03d}" for number in range(120)]
LARGE = [f"p/large/{number}" for number in range(4)]
STRIPED = TransferOptions(part_size=5 * MIB, multipart_threshold=6 * MIB, compare=Compare.EXACT, keep_uploads=False)


class There(NamedTuple):
    """A destination, and what is really in it."""

    location: Location
    objects: Callable[[], dict[str, bytes]]
    uploads: Callable[[], int]
    server: ObjectServer | None = None


@pytest.fixture(params=["gcs", "s3", "local"])
def there(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[There]:
    if request.param == "local":
        root = tmp_path / "out"
        (root / "q").mkdir(parents=True)

        def files() -> dict[str, bytes]:
            found = [path for path in root.rglob("*") if path.is_file() and ".skyplane" not in path.parts]
            return {str(path.relative_to(root)): path.read_bytes() for path in found}

        yield There(
            Location(StoreConfig("local", str(root)), "q/"),
            files,
            lambda: len([path for path in root.rglob("uploads/*") if path.is_file()]),
        )
        return
    with ObjectServer(request.param, buckets=["dst"], credentials={"AK": "SK"}, tokens=["t"]) as server:
        credentials = Credentials("AK", "SK") if request.param == "s3" else Credentials(token="t")
        store = StoreConfig(
            request.param, "dst", endpoint_url=server.endpoint_url, path_style=True, credentials=credentials
        )
        yield There(
            Location(store, "q/"),
            lambda: {key: server.get("dst", key) for key in server.list("dst") if ".skyplane" not in key},
            lambda: len(server.uploads("dst")),
            server,
        )


class Source:
    """A source that changes, and remembers every version that it has had."""

    def __init__(self, server: ObjectServer) -> None:
        self._server = server
        self._random = random.Random(1)
        self.versions: dict[str, list[bytes]] = {}

    def change(self, key: str) -> None:
        body = self._random.randbytes(12 * MIB + 5 if key in LARGE else 2000)
        self.versions.setdefault(key.replace("p/", "q/", 1), []).append(body)
        self._server.put("src", key, body)


def engine() -> SkyplaneClient:
    secret = random.randbytes(32)
    return SkyplaneClient(ClientConfig(gateways=1, pool_bytes=64 * MIB, control_secret=secret))


def sync(source: Location, destination: Location) -> Progress | TransferFailed:
    try:
        return engine().sync(source, destination, options=STRIPED).progress
    except TransferFailed as failed:
        return failed


def test_nothing_is_corrupted_and_the_last_sync_leaves_nothing_to_do(
    s3: ObjectServer, source: At, there: There
) -> None:
    changing = Source(s3)
    for key in (*SMALL, *LARGE):
        changing.change(key)
    over = threading.Event()
    chosen = random.Random(2)

    def change_on() -> None:
        while not over.wait(0.02):
            changing.change(chosen.choice(SMALL))
            if chosen.random() < 0.1:
                changing.change(chosen.choice(LARGE))

    with ThreadPoolExecutor(3) as pool:
        changes = pool.submit(change_on)
        for _ in range(2):
            for ended in [pool.submit(sync, source("p/"), there.location) for _ in range(2)]:
                # What changes while it is read or written fails by name; nothing fails because of the other engine.
                for key, why in ended.result().failures:
                    assert not re.search(r"upload|checksum|bytes|internal", why), (key, why)
        over.set()
        changes.result()
    for key, body in there.objects().items():
        assert any(body == version for version in changing.versions[key]), f"{key} is none of the source's versions"
    assert there.uploads() == 0
    last = sync(source("p/"), there.location)
    assert isinstance(last, Progress)
    assert there.objects() == {key: versions[-1] for key, versions in changing.versions.items()}
    again = sync(source("p/"), there.location)
    assert isinstance(again, Progress)
    assert (again.objects_copied, again.objects_skipped) == (0, len(SMALL) + len(LARGE))


@pytest.mark.parametrize("there", ["gcs", "s3"], indirect=True)
@pytest.mark.parametrize("operation", ["UploadPart", "CompleteMultipartUpload", "PutObject"])
def test_who_comes_second_finds_its_bytes_there_and_is_done(
    s3: ObjectServer, source: At, there: There, operation: str
) -> None:
    """One engine is held at the very end of each object, and the other one does it all meanwhile."""
    changing, keys = Source(s3), SMALL[:5] if operation == "PutObject" else LARGE
    for key in keys:
        changing.change(key)
    assert there.server is not None
    # One request for each object: the last part of three, the completion, or the only put.
    nth = (3,) if operation == "UploadPart" else (1,)
    there.server.set_faults(
        Faults(*(Fault(operation, "hold-before", key=key.replace("p/", "q/", 1), nth=nth) for key in keys))
    )
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(sync, source("p/"), there.location)
        there.server.wait_held(len(keys))
        held = there.uploads()
        second = sync(source("p/"), there.location)
        assert isinstance(second, Progress)
        assert second.objects_copied == len(keys)
        # The other engine's uploads are none of its business.
        assert there.uploads() == held
        there.server.release()
        ended = first.result()
    assert isinstance(ended, Progress), ended
    assert ended.objects_copied == len(keys)
    assert there.uploads() == 0
    assert there.objects() == {key: versions[-1] for key, versions in changing.versions.items()}


@pytest.mark.parametrize("there", ["gcs", "s3"], indirect=True)
def test_who_comes_second_with_older_bytes_fails_by_name_and_replaces_nothing(
    s3: ObjectServer, source: At, there: There
) -> None:
    changing = Source(s3)
    for key in LARGE:
        changing.change(key)
    assert there.server is not None
    there.server.set_faults(
        Faults(*(Fault("UploadPart", "hold-before", key=key.replace("p/", "q/", 1), nth=(3,)) for key in LARGE))
    )
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(sync, source("p/"), there.location)
        there.server.wait_held(len(LARGE))
        for key in LARGE:
            changing.change(key)
        second = sync(source("p/"), there.location)
        assert isinstance(second, Progress)
        there.server.release()
        ended = first.result()
    assert isinstance(ended, TransferFailed)
    assert sorted(key for key, _ in ended.failures) == LARGE
    assert there.uploads() == 0
    assert there.objects() == {key: versions[-1] for key, versions in changing.versions.items()}
