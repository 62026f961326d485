"""Keys arrive byte for byte, on the data path and on the control path."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from awscrt.checksums import crc32c

from skyplane_core.errors import ObjectNotFound, StoreRejected
from skyplane_core.model import ObjectAttributes, Precondition
from skyplane_core.stores.base import DataPath, ObjectStore
from tests.conformance.conftest import Put
from tests.conformance.store_case import ODD_KEYS, StoreCase

NAMES = [key if len(key) < 100 else f"{key[0]}x{len(key)}" for key in ODD_KEYS]


@pytest.mark.parametrize("key", ODD_KEYS, ids=map(ascii, NAMES))
def test_a_key_is_the_same_everywhere(
    case: StoreCase, store: ObjectStore, put: Put, get: Callable[[str], bytes], key: str
) -> None:
    content = b"" if key.endswith("/") else key.encode()
    if key in case.refused_keys or key in case.unknown_keys:
        with pytest.raises(ObjectNotFound if key in case.unknown_keys else StoreRejected) as caught:
            put(key, content)
        assert key in caught.value.where
        assert [info.key for info in store.list()] == []
        return
    put(key, content)
    assert [info.key for info in store.list()] == [key]
    assert store.head(key).key == key
    assert get(key) == content
    store.delete(key)
    assert list(store.list()) == []


@pytest.mark.parametrize("key", ODD_KEYS, ids=map(ascii, NAMES))
def test_an_upload_has_the_same_key_everywhere(
    case: StoreCase, store: ObjectStore, data: DataPath, get: Callable[[str], bytes], key: str
) -> None:
    if key in case.refused_keys or key in case.refused_uploads or key in case.unknown_keys:
        with pytest.raises(ObjectNotFound if key in case.unknown_keys else StoreRejected):
            store.create_upload(key, ObjectAttributes())
        return
    content = b"one part"
    upload = store.create_upload(key, ObjectAttributes())
    assert list(store.list_uploads()) == [(key, upload)]
    part = data.put_part(key, upload, 1, 0, memoryview(content), crc32c=crc32c(content))
    store.complete_upload(key, upload, [part], size=len(content), crc32c=crc32c(content), precondition=Precondition())
    assert [info.key for info in store.list()] == [key]
    assert get(key) == content
