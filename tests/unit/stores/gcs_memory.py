"""GCS in a dictionary, behind the interface of HttpData: what the documentation says of the calls that our store makes.

It refuses what the documentation says GCS refuses, such as a precondition on a request of a multipart upload.
``tamper`` lets a test change an answer on the way.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from awscrt.checksums import crc32c

from skyplane_core.stores.base import Landed
from skyplane_core.stores.gcs_wire import decode_crc32c, encode_crc32c
from skyplane_core.stores.http_data import Answer, Request
from skyplane_core.stores.http_head import Headers

CONTENT = {"content-type": "contentType", "cache-control": "cacheControl", "content-disposition": "contentDisposition"}
CONTENT |= {"content-encoding": "contentEncoding", "content-language": "contentLanguage"}


@dataclass
class Stored:
    data: bytes
    generation: int
    resource: dict[str, object]
    metageneration: int = 1


@dataclass
class Upload:
    key: str
    resource: dict[str, object]
    parts: dict[int, bytes] = field(default_factory=dict)


@dataclass
class Memory:
    """One bucket, ``b``. ``log`` holds the requests in order."""

    objects: dict[str, Stored] = field(default_factory=dict)
    uploads: dict[str, Upload] = field(default_factory=dict)
    log: list[Request] = field(default_factory=list)
    deleted: list[tuple[str, str]] = field(default_factory=list)
    tamper: Callable[[Request, Answer], Answer] = lambda _request, answer: answer
    on_complete: Callable[[str], object] = lambda _key: None
    page: int = 2
    generation_in_complete: bool = True
    _clock: int = 1_700_000_000_000_000

    # --- the interface of HttpData

    def send(self, request: Request, body: memoryview | bytes = b"") -> Answer:
        self.log.append(request)
        return self.tamper(request, self._route(request, bytes(body)))

    def get_into(
        self,
        request: Request,
        buffer: memoryview,
        *,
        expect: tuple[int, ...] = (200, 206),
        landed: Landed | None = None,
    ) -> Answer:
        answer = self.send(request)
        if answer.status not in expect:
            return answer
        assert len(answer.body) == len(buffer)
        buffer[:] = answer.body
        return answer._replace(body=b"")

    def close(self) -> None:
        """Nothing to close."""

    # --- GCS

    def put(self, key: str, data: bytes, resource: dict[str, object] | None = None) -> Stored:
        self._clock += 1
        self.objects[key] = Stored(data, self._clock, resource or {})
        return self.objects[key]

    def _route(self, request: Request, body: bytes) -> Answer:
        url = urlsplit(request.target)
        query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        headers = {name.lower(): value for name, value in request.headers.items()}
        segments = [unquote(segment) for segment in url.path.strip("/").split("/")]
        if segments[:2] == ["upload", "storage"]:
            return self._json_upload(query, headers, body)
        if url.path == "/storage/v1/b/b/o":
            return answer_json(200, {"items": [self._resource(*item) for item in sorted(self.objects.items())]})
        if segments[0] == "storage":
            return self._json(request.method, unquote(url.path.split("/")[6]), query, body)
        key = unquote(url.path.split("/")[2]) if url.path.count("/") == 2 else ""
        if ("uploads" in query or "uploadId" in query) and "x-goog-if-generation-match" in headers:
            return xml_error(400, "NotImplemented")
        if "uploads" in query:
            return self._initiate(key, headers) if request.method == "POST" else self._list_uploads(query)
        if "uploadId" in query:
            return self._multipart(request.method, key, query, headers, body)
        return self._put(key, headers, body) if request.method == "PUT" else self._get(request, key, query, headers)

    def _json(self, method: str, key: str, query: dict[str, str], body: bytes) -> Answer:
        found = self.objects.get(key)
        wanted = query.get("generation", "")
        if found is None or (wanted and wanted != str(found.generation)):
            return answer_json(
                404, {"error": {"message": f"No such object: b/{key}", "errors": [{"reason": "notFound"}]}}
            )
        if query.get("ifGenerationMatch", str(found.generation)) != str(found.generation):
            return answer_json(412, {"error": {"message": "conditionNotMet"}})
        if method == "DELETE":
            self.deleted.append((key, wanted or query.get("ifGenerationMatch", "")))
            del self.objects[key]
            return Answer(204, message({}), b"")
        if method == "PATCH":
            assert query["ifMetagenerationMatch"] == str(found.metageneration)
            merge(found.resource, json.loads(body))
            found.metageneration += 1
        return answer_json(200, self._resource(key, found))

    def _json_upload(self, query: dict[str, str], headers: dict[str, str], body: bytes) -> Answer:
        boundary = headers["content-type"].partition("boundary=")[2].encode()
        _, first, second = body.removesuffix(b"\r\n--" + boundary + b"--").split(b"--" + boundary + b"\r\n")
        resource = json.loads(first.split(b"\r\n\r\n", 1)[1])
        data = second.split(b"\r\n\r\n", 1)[1]
        key = resource.pop("name")
        if not self._matches(key, query.get("ifGenerationMatch")):
            return answer_json(412, {"error": {"message": "conditionNotMet"}})
        if decode_crc32c(resource.pop("crc32c")) != crc32c(data):
            return answer_json(400, {"error": {"message": "Provided CRC32C doesn't match calculated CRC32C"}})
        return answer_json(200, self._resource(key, self.put(key, data, resource)))

    def _put(self, key: str, headers: dict[str, str], body: bytes) -> Answer:
        if not self._matches(key, headers.get("x-goog-if-generation-match")):
            return xml_error(412, "PreconditionFailed")
        if headers["x-goog-hash"] != f"crc32c={encode_crc32c(crc32c(body))}":
            return xml_error(400, "BadDigest")
        return Answer(200, message(self._headers(self.put(key, body, resource_of(headers)))), b"")

    def _get(self, request: Request, key: str, query: dict[str, str], headers: dict[str, str]) -> Answer:
        assert headers.get("accept-encoding") == "gzip"
        found = self.objects.get(key)
        if found is None or query.get("generation", str(found.generation)) != str(found.generation):
            return Answer(404, message({}), b"") if request.method == "HEAD" else xml_error(404, "NoSuchKey")
        answer = self._headers(found)
        if request.method == "HEAD":
            return Answer(200, message(answer), b"")
        first, last = map(int, re.findall(r"\d+", headers["range"]))
        if first >= len(found.data):
            return xml_error(416, "InvalidRange")
        data = found.data[first : last + 1]
        answer["Content-Range"] = f"bytes {first}-{first + len(data) - 1}/{len(found.data)}"
        return Answer(206, message(answer), data)

    def _initiate(self, key: str, headers: dict[str, str]) -> Answer:
        upload_id = f"id-{len(self.uploads) + 1}"
        self.uploads[upload_id] = Upload(key, resource_of(headers))
        return xml_answer("InitiateMultipartUploadResult", f"<UploadId>{upload_id}</UploadId>")

    def _list_uploads(self, query: dict[str, str]) -> Answer:
        marker = query.get("key-marker", ""), query.get("upload-id-marker", "")
        found = sorted((up.key, i) for i, up in self.uploads.items() if up.key.startswith(query.get("prefix", "")))
        found = [item for item in found if item > marker]
        body = "".join(
            f"<Upload><Key>{escape(k)}</Key><UploadId>{i}</UploadId></Upload>" for k, i in found[: self.page]
        )
        if len(found) > self.page:
            key, upload_id = found[self.page - 1]
            body += f"<IsTruncated>true</IsTruncated><NextKeyMarker>{escape(key)}</NextKeyMarker>"
            body += f"<NextUploadIdMarker>{upload_id}</NextUploadIdMarker>"
        return xml_answer("ListMultipartUploadsResult", body)

    def _multipart(self, method: str, key: str, query: dict[str, str], headers: dict[str, str], body: bytes) -> Answer:
        upload_id = query["uploadId"]
        upload = self.uploads.get(upload_id)
        if upload is None or upload.key != key:
            return xml_error(404, "NoSuchUpload")
        if method == "PUT":
            if headers["x-goog-hash"] != f"crc32c={encode_crc32c(crc32c(body))}":
                return xml_error(400, "BadDigest")
            upload.parts[int(query["partNumber"])] = body
            return Answer(200, message({"ETag": f'"{crc32c(body):08x}"', "x-goog-hash": headers["x-goog-hash"]}), b"")
        if method == "GET":
            return self._list_parts(upload, int(query.get("part-number-marker", "0")))
        del self.uploads[upload_id]
        if method == "DELETE":
            return Answer(204, message({}), b"")
        asked = re.findall(rb'<PartNumber>(\d+)</PartNumber><ETag>("\w+")</ETag>', body)
        assert all(f'"{crc32c(upload.parts[int(number)]):08x}"' == etag.decode() for number, etag in asked)
        stored = self.put(key, b"".join(upload.parts[int(number)] for number, _ in asked), upload.resource)
        headers = {"x-goog-generation": str(stored.generation)} if self.generation_in_complete else {}
        etag = escape(f'"{stored.generation}-{len(asked)}"')
        stored.resource["etag"] = f'"{stored.generation}-{len(asked)}"'
        self.on_complete(key)
        return xml_answer("CompleteMultipartUploadResult", f"<ETag>{etag}</ETag>", headers)

    def _list_parts(self, upload: Upload, marker: int) -> Answer:
        numbers = [number for number in sorted(upload.parts) if number > marker]
        body = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>&quot;{crc32c(upload.parts[number]):08x}&quot;</ETag>"
            f"<Size>{len(upload.parts[number])}</Size></Part>"
            for number in numbers[: self.page]
        )
        if len(numbers) > self.page:
            body += (
                f"<IsTruncated>true</IsTruncated><NextPartNumberMarker>{numbers[self.page - 1]}</NextPartNumberMarker>"
            )
        return xml_answer("ListPartsResult", body)

    def _matches(self, key: str, generation: str | None) -> bool:
        current = self.objects.get(key)
        return generation is None or generation == str(current.generation if current else 0)

    def _resource(self, key: str, found: Stored) -> dict[str, object]:
        return {
            **found.resource,
            "name": key,
            "size": str(len(found.data)),
            "generation": str(found.generation),
            "metageneration": str(found.metageneration),
            "updated": "2026-11-21T00:00:00Z",
            "crc32c": encode_crc32c(crc32c(found.data)),
        }

    def _headers(self, found: Stored) -> dict[str, str]:
        headers = {header: str(found.resource[name]) for header, name in CONTENT.items() if name in found.resource}
        for name, value in dict(found.resource.get("metadata", {})).items():  # type: ignore[call-overload]
            headers[f"x-goog-meta-{name}"] = value
        headers["x-goog-stored-content-encoding"] = str(found.resource.get("contentEncoding", "identity"))
        headers["x-goog-generation"] = str(found.generation)
        headers["x-goog-hash"] = f"crc32c={encode_crc32c(crc32c(found.data))}"
        headers["ETag"] = str(found.resource.get("etag", '"md5"'))
        return headers


def resource_of(headers: dict[str, str]) -> dict[str, object]:
    resource: dict[str, object] = {name: headers[header] for header, name in CONTENT.items() if header in headers}
    prefix = "x-goog-meta-"
    metadata = {name.removeprefix(prefix): value for name, value in headers.items() if name.startswith(prefix)}
    return {**resource, "metadata": metadata} if metadata else resource


def merge(target: dict[str, object], change: dict[str, object]) -> None:
    """JSON merge patch, as the JSON API's PATCH."""
    for name, value in change.items():
        if value is None:
            target.pop(name, None)
        elif isinstance(value, dict):
            inner = target.setdefault(name, {})
            assert isinstance(inner, dict)
            merge(inner, value)
        else:
            target[name] = value


def message(headers: dict[str, str]) -> Headers:
    return Headers((name, value.encode().decode("latin-1")) for name, value in headers.items())


def answer_json(status: int, body: dict[str, object]) -> Answer:
    return Answer(status, message({"Content-Type": "application/json"}), json.dumps(body).encode())


def xml_answer(root: str, body: str, headers: dict[str, str] | None = None) -> Answer:
    return Answer(200, message(headers or {}), f"<{root}>{body}</{root}>".encode())


def xml_error(status: int, code: str) -> Answer:
    return xml_answer("Error", f"<Code>{code}</Code><Message>{code}</Message>")._replace(status=status)
