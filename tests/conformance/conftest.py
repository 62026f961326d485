"""Runs every test here on every case in the ``cases_*.py`` beside it: one server a session, one bucket a test."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from awscrt.checksums import crc32c

from skyplane_core.model import ObjectAttributes, Precondition, StoreConfig, Stored
from skyplane_core.stores.base import DataPath, ObjectStore
from skyplane_core.stores.registry import open_store
from tests.conformance.store_case import Running, StoreCase, started


def cases() -> list[StoreCase]:
    """All there are."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("cases_*.py"))
    modules = [importlib.import_module(f"tests.conformance.{name}") for name in names]
    return [case for module in modules for case in module.CASES]


_numbers = itertools.count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Copies are asked of stores that copy. (A ``case`` of their own would be another fixture beside ours, and what
    hangs on the one would outlive the other.)
    """
    path = Path(__file__).parent / "test_copies.py"
    items[:] = [item for item in items if item.path != path or (case := case_of(item)) is None or case.copies]


def case_of(item: pytest.Item) -> StoreCase | None:
    """What a test runs on, if on a case."""
    found: StoreCase | None = item.callspec.params.get("case") if hasattr(item, "callspec") else None
    return found


@pytest.fixture(scope="session", params=cases(), ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> StoreCase:
    found: StoreCase = request.param
    return found


@pytest.fixture(scope="session")
def running(case: StoreCase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with started(case, tmp_path_factory.mktemp("server")) as found:
        yield found


@pytest.fixture
def config(running: Running) -> StoreConfig:
    """An empty bucket of this test's own."""
    return running.make_bucket(f"conformance-{next(_numbers)}")


@pytest.fixture
def store(config: StoreConfig) -> Iterator[ObjectStore]:
    opened = open_store(config)
    yield opened
    opened.close()


@pytest.fixture
def data(store: ObjectStore) -> Iterator[DataPath]:
    path = store.data()
    yield path
    path.close()


Put = Callable[..., Stored]


@pytest.fixture
def put(data: DataPath) -> Put:
    """Put an object: ``put(key, b"bytes", precondition=…, attributes=…)``, with the right checksum unless told."""

    def put(
        key: str,
        content: bytes = b"",
        *,
        precondition: Precondition = Precondition(),
        attributes: ObjectAttributes = ObjectAttributes(),
        checksum: int | None = None,
    ) -> Stored:
        return data.put_object(
            key,
            memoryview(content),
            crc32c=crc32c(content) if checksum is None else checksum,
            attributes=attributes,
            precondition=precondition,
        )

    return put


@pytest.fixture
def get(store: ObjectStore, data: DataPath) -> Callable[[str], bytes]:
    """The bytes of an object as it is now."""

    def get(key: str) -> bytes:
        info = store.head(key)
        buffer = bytearray(info.size)
        data.read_into(key, info.version, 0, memoryview(buffer))
        return bytes(buffer)

    return get
