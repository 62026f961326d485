"""Storage class and tags come back as they went, by a put and by an upload in parts."""

from __future__ import annotations

from awscrt.checksums import crc32c

from skyplane_core.model import ObjectAttributes, Precondition, StoreConfig
from skyplane_core.stores.base import DataPath, ObjectStore, tags_of
from skyplane_core.stores.holding import holding
from tests.conformance.conftest import Put
from tests.conformance.store_case import Feature, StoreCase

TAGS = {"team": "a b", "a/b:c": "1=2+3@x_-.", "empty": ""}


def write(store: ObjectStore, data: DataPath, put: Put, attributes: ObjectAttributes) -> None:
    put("put", b"content", attributes=attributes)
    upload = store.create_upload("striped", attributes)
    part = data.put_part("striped", upload, 1, 0, memoryview(b"content"), crc32c=crc32c(b"content"))
    store.complete_upload("striped", upload, [part], size=7, crc32c=crc32c(b"content"), precondition=Precondition())


def test_a_storage_class_comes_back(
    case: StoreCase, config: StoreConfig, store: ObjectStore, data: DataPath, put: Put
) -> None:
    holds = holding(config)
    if not holds.classes:
        assert config.kind != "s3"
        return
    name = holds.storage_classes[1] if holds.storage_classes else "STANDARD_IA"
    attributes = ObjectAttributes(content_type="text/plain", storage_class=name)
    with case.outcome(Feature.STORAGE_CLASS, None):
        write(store, data, put, attributes)
    if case.has(Feature.STORAGE_CLASS):
        for key in ("put", "striped"):
            info = store.head(key)
            assert info.attributes == attributes
            assert data.read_into(key, info.version, 0, memoryview(bytearray(7))).attributes == attributes


def test_tags_come_back(case: StoreCase, config: StoreConfig, store: ObjectStore, data: DataPath, put: Put) -> None:
    if not holding(config).tags:
        assert config.kind != "s3"
        return
    with case.outcome(Feature.TAGS, None):
        write(store, data, put, ObjectAttributes(tags=TAGS))
    if case.has(Feature.TAGS):
        put("untagged")
        assert [tags_of(store, key) for key in ("put", "striped", "untagged")] == [TAGS, TAGS, {}]
