"""Storage class and encryption key of an object, kept among its attributes under the names of their headers."""

from __future__ import annotations

import re

from skyplane_core.testing.objectserver.messages import ApiError
from skyplane_core.testing.objectserver.state import StoredObject

CUSTOM_TIME = "x-goog-custom-time"
CLASS = "x-goog-storage-class"
KMS_KEY = "x-goog-encryption-kms-key-name"
CLASSES = ("STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE")
_KEY = re.compile(r"projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+")


def placement(storage_class: str, kms_key: str) -> dict[str, str]:
    """What a write says of these. Raises ApiError for what GCS does not take."""
    if storage_class and storage_class not in CLASSES:
        raise ApiError(400, "InvalidArgument", f"Invalid storage class: {storage_class}")
    if kms_key and not _KEY.fullmatch(kms_key):
        raise ApiError(400, "InvalidArgument", f"Malformed Cloud KMS crypto key: {kms_key}")
    return {name: value for name, value in ((CLASS, storage_class), (KMS_KEY, kms_key)) if value}


def shown(stored: StoredObject) -> dict[str, str]:
    """The headers of an answer of the XML API."""
    headers = {CLASS: stored.attributes.get(CLASS, "STANDARD")}
    return headers | ({KMS_KEY: stored.attributes[KMS_KEY]} if KMS_KEY in stored.attributes else {})
