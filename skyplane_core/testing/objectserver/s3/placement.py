"""What a write says besides bytes, content headers and metadata: class, encryption at rest, tags, access control.

They are kept among an object's attributes under their own header names, and given back as S3 gives them back.
"""

from __future__ import annotations

import urllib.parse

from skyplane_core.testing.objectserver import xmlio
from skyplane_core.testing.objectserver.messages import ApiError, Request, Response
from skyplane_core.testing.objectserver.state import StoredObject

CLASS = "x-amz-storage-class"
ENCRYPTION = "x-amz-server-side-encryption"
KMS_KEY = "x-amz-server-side-encryption-aws-kms-key-id"
TAGGING = "x-amz-tagging"
ACL = "x-amz-acl"
ACLS = (
    "private",
    "public-read",
    "public-read-write",
    "authenticated-read",
    "aws-exec-read",
    "bucket-owner-read",
    "bucket-owner-full-control",
)
CLASSES = (
    "STANDARD",
    "REDUCED_REDUNDANCY",
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "GLACIER",
    "DEEP_ARCHIVE",
    "GLACIER_IR",
)
ARCHIVES = ("GLACIER", "DEEP_ARCHIVE")
ENCRYPTIONS = ("AES256", "aws:kms", "aws:kms:dsse")
MAX_TAGS = 10


def placement(request: Request) -> dict[str, str]:
    """What the request says of these, by header name. Raises ApiError for what S3 does not take."""
    names = (CLASS, ENCRYPTION, KMS_KEY, TAGGING, ACL)
    found = {name: value for name in names if (value := request.headers.get(name))}
    if found.get(ACL, "private") not in ACLS:
        raise ApiError(400, "InvalidArgument", "Invalid canned ACL")
    if found.get(CLASS, "STANDARD") not in CLASSES:
        raise ApiError(400, "InvalidStorageClass", "The storage class you specified is not valid")
    if found.get(CLASS) == "STANDARD":
        del found[CLASS]
    if found.get(ENCRYPTION, "AES256") not in ENCRYPTIONS:
        raise ApiError(400, "InvalidArgument", "The encryption method specified is not supported")
    if KMS_KEY in found and not found.get(ENCRYPTION, "").startswith("aws:kms"):
        raise ApiError(400, "InvalidArgument", "A KMS key needs the encryption method aws:kms")
    tags = urllib.parse.parse_qsl(found.get(TAGGING, ""), keep_blank_values=True)
    if len(tags) > MAX_TAGS:
        raise ApiError(400, "BadRequest", "Object tags cannot be greater than 10")
    if any(not name or len(name) > 128 or len(value) > 256 for name, value in tags):
        raise ApiError(400, "InvalidTag", "The TagKey or TagValue you have provided is too long")
    if len({name for name, _ in tags}) != len(tags):
        raise ApiError(400, "InvalidTag", "Cannot provide multiple Tags with the same key")
    return found


def shown(stored: StoredObject) -> dict[str, str]:
    """The headers of an answer to GET or HEAD: tags are only counted there."""
    headers = {name: value for name in (CLASS, ENCRYPTION, KMS_KEY) if (value := stored.attributes.get(name))}
    tags = urllib.parse.parse_qsl(stored.attributes.get(TAGGING, ""), keep_blank_values=True)
    return headers | ({"x-amz-tagging-count": str(len(tags))} if tags else {})


def check_readable(stored: StoredObject) -> None:
    """Raise unless the object's class can be read without restoring it."""
    if stored.attributes.get(CLASS) in ARCHIVES:
        raise ApiError(403, "InvalidObjectState", "The operation is not valid for the object's storage class")


def tagging(stored: StoredObject) -> Response:
    """The answer to GetObjectTagging."""
    tags = urllib.parse.parse_qsl(stored.attributes.get(TAGGING, ""), keep_blank_values=True)
    items = "".join(xmlio.wrap("Tag", xmlio.elements([("Key", name), ("Value", value)])) for name, value in tags)
    document = xmlio.document("Tagging", xmlio.wrap("TagSet", items), xmlio.S3_NAMESPACE)
    return Response(200, {"Content-Type": "application/xml"}, document)
