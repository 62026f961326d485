"""JSON API uploads: media, multipart and resumable."""

# ruff: noqa: ARG002 - operations share one signature, and are named as the store names them.
from __future__ import annotations

import dataclasses
import os
import re
from typing import Any

from skyplane_core.testing.objectserver.blobs import Blob, BlobWriter, concatenate
from skyplane_core.testing.objectserver.gcs.bodies import RelatedBody, announced, from_resource, land, verify
from skyplane_core.testing.objectserver.gcs.preconditions import Preconditions, from_query
from skyplane_core.testing.objectserver.gcs.resources import answer, attributes_of, parse_json, read_json, resource
from skyplane_core.testing.objectserver.messages import ApiError, ConnectionLost, Request, Response
from skyplane_core.testing.objectserver.state import Bucket, State, StoredObject

QUANTUM = 256 << 10
"""Chunks of a resumable upload are multiples of so many bytes, all but the last."""

_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


@dataclasses.dataclass(slots=True)
class Session:
    """A resumable upload. ``finished`` is the object's resource once it is complete, which is then its only answer.

    The object itself is not kept: it may be deleted, and its bytes have to go with it.
    """

    bucket: Bucket
    key: str
    value: dict[str, Any]
    content_type: str
    conditions: Preconditions
    total: int | None
    blobs: list[Blob] = dataclasses.field(default_factory=list)
    received: int = 0
    finished: dict[str, Any] | None = None


class Uploads:
    """Handlers, and the resumable sessions that are open."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._sessions: dict[str, Session] = {}

    def insert(self, state: State, request: Request, bucket_name: str, key: str) -> Response:
        """``uploadType=media`` and ``multipart``."""
        bucket, name = state.bucket(bucket_name), request.query.get("name", "")
        if request.query.get("uploadType") == "multipart":
            body = RelatedBody(request)
            value = parse_json(body.metadata)
            blob = land(request, state, announced(request) | from_resource(value), body)
            content_type = body.content_type
        else:
            value = {"contentEncoding": request.query.get("contentEncoding", "")}
            blob = land(request, state, announced(request))
            content_type = request.headers.get("content-type", "")
        value["kmsKeyName"] = request.query.get("kmsKeyName", "")
        stored = self._made(_checked_name(name or str(value.get("name", ""))), blob, value, content_type)
        bucket.put(stored, from_query(request))
        return answer(resource(request, bucket_name, stored))

    def start(self, state: State, request: Request, bucket_name: str, key: str) -> Response:
        """``uploadType=resumable``: opens a session, whose address is in the answer."""
        bucket, conditions, value = state.bucket(bucket_name), from_query(request), read_json(request)
        name = _checked_name(request.query.get("name", "") or str(value.get("name", "")))
        if conditions.any:
            conditions(bucket.current(name))
        length = request.headers.get("x-upload-content-length", "")
        session = Session(
            bucket,
            name,
            value,
            request.headers.get("x-upload-content-type", ""),
            conditions,
            int(length) if length.isdecimal() else None,
        )
        upload_id = os.urandom(24).hex()
        with state.lock:
            self._sessions[upload_id] = session
        address = f"{request.base_url}/upload/storage/v1/b/{bucket_name}/o?uploadType=resumable&upload_id={upload_id}"
        return Response(200, {"Location": address, "X-GUploader-UploadID": upload_id})

    def cancel(self, state: State, request: Request, bucket_name: str, key: str) -> Response:
        """DELETE of a session."""
        self._session(request)
        with state.lock:
            self._sessions.pop(request.query["upload_id"], None)
        return Response(499)

    def resume(self, state: State, request: Request, bucket_name: str, key: str) -> Response:
        """A chunk of a session, or (``Content-Range: bytes */N``) the question of how far it is."""
        session = self._session(request)
        if session.finished is not None:
            return answer(session.finished)
        header = request.headers.get("content-range")
        if header is None:
            first, last, total = 0, (request.content_length or 0) - 1, request.content_length
        else:
            match = _CONTENT_RANGE.fullmatch(header)
            if match is None:
                raise ApiError(400, "InvalidArgument", f"Failed to parse Content-Range header {header!r}.")
            total = int(match[3]) if match[3] != "*" else None
            if match[1] is None:
                if total is not None and total == session.received:
                    return self._finish(request, session)
                return _progress(request, session)
            first, last = int(match[1]), int(match[2])
        if first > session.received:
            raise ApiError(400, "InvalidArgument", f"Invalid request. {session.received} bytes are here, not {first}.")
        final = total is not None and last + 1 == total
        if not final and (last + 1 - first) % QUANTUM:
            raise ApiError(400, "InvalidArgument", "chunks of a resumable upload are multiples of 256 KiB")
        if session.total is not None and total is not None and total != session.total:
            raise ApiError(400, "InvalidArgument", "the total size is not the one announced at the start")
        self._take(request, session, skip=session.received - first)
        if final and total == session.received:
            return self._finish(request, session)
        return _progress(request, session)

    def _take(self, request: Request, session: Session, skip: int) -> None:
        """Append the body without its first ``skip`` bytes; of a body that is cut short, keep whole quanta."""
        expected = request.content_length
        writer = BlobWriter(
            self._state.arena, (), expected - skip if expected is not None and expected > skip else None
        )
        lost: ConnectionLost | None = None
        try:
            while skip and (got := request.body.readinto(request.buffer()[:skip])):
                skip -= got
            while got := request.body.readinto(writer.space()):
                writer.commit(got)
        except ConnectionLost as error:
            lost = error
        blob = writer.finish()
        if lost is not None:
            blob = (
                blob.slice(0, blob.size - (session.received + blob.size) % QUANTUM)
                if blob.size >= QUANTUM
                else Blob((), 0, 0, 0)
            )
        session.blobs.append(blob)
        session.received += blob.size
        if lost is not None:
            raise lost

    def _finish(self, request: Request, session: Session) -> Response:
        blob = concatenate(session.blobs)
        wanted = announced(request) | from_resource(session.value)
        if self._state.md5:
            blob.digest("MD5")
        verify(blob, wanted)
        stored = self._made(session.key, blob, session.value, session.content_type)
        session.bucket.put(stored, session.conditions)
        session.finished, session.blobs = resource(request, session.bucket.name, stored), []
        return answer(session.finished)

    def _session(self, request: Request) -> Session:
        session = self._sessions.get(request.query["upload_id"])
        if session is None:
            raise ApiError(404, "NoSuchUpload", "Upload session not found")
        return session

    def _made(self, key: str, blob: Blob, value: dict[str, Any], content_type: str) -> StoredObject:
        attributes, metadata = attributes_of(value, content_type or "application/octet-stream")
        return self._state.new_object(key, blob, attributes=attributes, metadata=metadata)


def _progress(request: Request, session: Session) -> Response:
    headers = {"Range": f"bytes=0-{session.received - 1}"} if session.received else {}
    if request.headers.get("x-guploader-no-308") == "yes":
        # Google's Go client asks for this, because 308 has come to mean a redirect.
        return Response(200, {**headers, "X-HTTP-Status-Code-Override": "308"})
    return Response(308, headers)


def _checked_name(name: str) -> str:
    if not 1 <= len(name.encode()) <= 1024:
        raise ApiError(400, "InvalidArgument", "An object name has between 1 and 1024 bytes")
    return name
