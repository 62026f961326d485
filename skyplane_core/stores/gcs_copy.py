"""Copies that GCS makes by itself (JSON ``rewriteTo``), in as many calls as it wants: between regions, for one."""

from __future__ import annotations

import contextlib
from typing import Annotated
from urllib.parse import quote

import msgspec

from skyplane_core.errors import ObjectNotFound, PreconditionFailed, SourceChanged, StoreError
from skyplane_core.model import Attestation, Copied, CopySource, CopyStep, ObjectAttributes, Precondition, Stored
from skyplane_core.stores import gcs_wire as wire
from skyplane_core.stores.gcs_calls import GcsCalls, open_http
from skyplane_core.stores.http_data import HttpData

COPY_TIMEOUT = 280.0
"""Seconds without a byte of an answer. One call takes half a minute at most; whoever asks over a link waits 300."""
_Count = Annotated[int, msgspec.Meta(ge=0, le=10**18)]


class _Rewritten(msgspec.Struct, rename="camel"):
    """How far a rewrite is. GCS writes 64-bit integers as strings."""

    done: bool = False
    rewrite_token: str = ""
    total_bytes_rewritten: _Count = 0
    resource: wire.JsonObject | None = None


# Made once and here: msgspec works out a type on its first use, and crashes if two threads do so at once.
_REWRITTEN = msgspec.json.Decoder(_Rewritten, strict=False)


def copy(
    calls: GcsCalls,
    source: CopySource,
    key: str,
    attributes: ObjectAttributes,
    precondition: Precondition,
    token: str,
) -> CopyStep:
    """As :meth:`skyplane_core.stores.base.CopyingStore.copy`, into the bucket of ``calls``."""
    calls.check_key(key)
    # Without any member GCS would take over the source's attributes.
    members = {"contentType": "application/octet-stream"} | wire.json_attributes(attributes)
    if attributes.storage_class:
        members["storageClass"] = attributes.storage_class
    with contextlib.closing(open_http(calls.config, COPY_TIMEOUT)) as http:
        answer = _call(calls, http, source, key, precondition, token, msgspec.json.encode(members))
    if answer.done and answer.resource is not None:
        return CopyStep(_copied(calls, key, answer.resource))
    return CopyStep(token=answer.rewrite_token, moved=answer.total_bytes_rewritten)


def _call(
    calls: GcsCalls,
    http: HttpData,
    source: CopySource,
    key: str,
    precondition: Precondition,
    token: str,
    body: bytes,
) -> _Rewritten:
    version = source.info.version
    target = wire.json_target(
        source.bucket,
        source.info.key,
        verb=f"rewriteTo/b/{quote(calls.config.bucket, safe='')}/o/{quote(key, safe='')}",
        sourceGeneration=version,
        ifSourceGenerationMatch=version,
        ifGenerationMatch=wire.generation_match(precondition),
        destinationKmsKeyName=calls.config.kms_key,
        rewriteToken=token,
    )
    headers = {"Content-Type": "application/json"}
    try:
        answer = calls.send(http, "POST", target, "cannot copy the object", key=key, headers=headers, body=body)
    except (PreconditionFailed, ObjectNotFound) as refused:
        raise _which(calls, http, source, refused) from refused
    return calls.decode(answer.body, _REWRITTEN, key)


def _which(calls: GcsCalls, http: HttpData, source: CopySource, refused: StoreError) -> StoreError:
    """Whether it was the source or the destination that was not as demanded: GCS says the same of both."""
    config = msgspec.structs.replace(calls.config, bucket=source.bucket)
    there = GcsCalls(config)
    try:
        there.head(http, source.info.key, source.info.version)
    except ObjectNotFound:
        return SourceChanged(
            "the source object is no longer the one that was listed",
            where=there.where(source.info.key),
            why=refused.why,
            next_step="Run the transfer again to list it anew.",
        )
    return refused


def _copied(calls: GcsCalls, key: str, resource: wire.JsonObject) -> Copied:
    crc32c = wire.decode_crc32c(resource.crc32c)
    if not resource.generation:
        raise calls.garbled(ValueError("a copy without a generation"), key)
    attestation = Attestation.WHOLE if crc32c is not None else None
    return Copied(Stored(resource.generation, resource.size, crc32c, attestation))
