"""What boto3 calls ``ExtraArgs`` of an upload to S3, as the engine's rules and options. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from skyplane_core.attribute_rules import rules_of
from skyplane_core.errors import UsageError
from skyplane_core.model import AttributeRules
from skyplane_core.store_options import StoreOptions

S3_DEFAULT_TYPE = "binary/octet-stream"
"""The content type that S3 gives an object whose writer said none, as the stock operators do."""

_RULES = {
    "ContentType": "content_type",
    "CacheControl": "cache_control",
    "ContentDisposition": "content_disposition",
    "ContentEncoding": "content_encoding",
    "ContentLanguage": "content_language",
    "StorageClass": "storage_class",
    "Metadata": "metadata",
}
_OPTIONS = {"ACL": "acl", "ServerSideEncryption": "encryption", "SSEKMSKeyId": "kms_key"}
_OTHERS = ("Tagging", "RequestPayer", "ChecksumAlgorithm")
_CRC32C = "CRC32C"
_NO_ACL = "no-acl"
"""The amazon provider's word for sending no access control list at all."""


@dataclasses.dataclass(frozen=True)
class Written:
    """How objects are to be written: what every copy gets, and how the store is asked to write it."""

    rules: AttributeRules
    options: StoreOptions


def written(extra_args: Mapping[str, Any] | None, acl_policy: str | None, *, plain: bool = True) -> Written:
    """The meaning of ``ExtraArgs`` and of the argument for the access control list, which goes before theirs.

    Args:
        plain: copies keep no content type of the source's, and get what S3 gives them.

    Raises:
        UsageError: one of them cannot be followed, or is not what it has to be; it is named.
    """
    given = dict(extra_args or {})
    unknown = sorted(given.keys() - {*_RULES, *_OPTIONS, *_OTHERS})
    if unknown:
        raise UsageError(
            f"the extra arguments {', '.join(unknown)} cannot be followed",
            why=f"these can: {', '.join(sorted({*_RULES, *_OPTIONS, *_OTHERS}))}",
            next_step="Leave them out, set them as the bucket's defaults, or keep the stock operator for this task.",
        )
    if given.get("ChecksumAlgorithm", _CRC32C) != _CRC32C:
        raise UsageError(
            f"ChecksumAlgorithm cannot be {given['ChecksumAlgorithm']!r}",
            why="every object is written and attested with CRC32C",
            next_step="Leave it out.",
        )
    rules = {rule: given[name] for name, rule in _RULES.items() if name in given}
    if plain:
        rules.setdefault("content_type", S3_DEFAULT_TYPE)
    if given.get("Tagging"):
        rules["tags"] = dict(parse_qsl(given["Tagging"], keep_blank_values=True))
    options: dict[str, Any] = {option: given[name] for name, option in _OPTIONS.items() if name in given}
    if acl_policy:
        options["acl"] = acl_policy
    if options.get("acl") == _NO_ACL:
        del options["acl"]
    if given.get("RequestPayer"):
        options["requester_pays"] = True
    return Written(rules_of(rules), StoreOptions.of(options))
