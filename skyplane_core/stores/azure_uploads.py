"""Blobs that are written block by block: open, look at, commit with attestation, abort.

Azure has no uploads, only blocks that wait at a blob's name until somebody commits a list of them. What makes an upload
of them is in the blocks' ids (:class:`~skyplane_core.stores.azure_wire.Block`): one block opens it, one says that it
was aborted. Blocks of others are never listed by us; but a commit, or any other write of the blob, drops every block
that waits there, whosever it is. Azure drops what nobody commits after a week, and has no call that does so earlier.
"""

from __future__ import annotations

from collections.abc import Iterator

from skyplane_core import checksum
from skyplane_core.errors import (
    BucketNotFound,
    ChecksumMismatch,
    ObjectNotFound,
    PreconditionFailed,
    StoreRejected,
    UploadNotFound,
)
from skyplane_core.model import Attestation, ObjectAttributes, Precondition, Stored, StoredPart
from skyplane_core.stores import azure_wire as wire
from skyplane_core.stores import azure_xml as xml
from skyplane_core.stores.azure_calls import AzureCalls
from skyplane_core.stores.azure_data import etag_of, written_where_nothing_is
from skyplane_core.stores.azure_errors import code_of
from skyplane_core.stores.azure_listing import Listing
from skyplane_core.stores.base import MIB
from skyplane_core.stores.http_data import HttpData
from skyplane_core.stores.http_pool import ConnectionPool

_MARK = b"skyplane"
"""What a block holds that is no part; an empty one is refused."""
_LIST_LIMIT = 8 * MIB
"""Bytes of a block list: the 50,000 of ours that can be committed take half of it."""


class AzureUploads:
    """The multipart half of the store's protocol, for one container. Thread-safe."""

    def __init__(self, calls: AzureCalls, pool: ConnectionPool, listing: Listing) -> None:
        self._calls = calls
        self._pool = pool
        self._listing = listing

    def create(self, key: str, attributes: ObjectAttributes) -> str:
        """As the protocol says. The id carries the attributes until the commit sets them."""
        wire.attribute_headers(attributes, self._calls.where(key))
        upload_id = wire.new_upload(attributes)
        with self._pool.connection() as http:
            self._calls.check_segments(http, key)
            self._mark(http, key, upload_id, wire.OPEN, "cannot open an upload")
        return upload_id

    def parts(self, key: str, upload_id: str) -> Iterator[StoredPart]:
        """The blocks of the upload by number.

        Of a number with several blocks, which differ in their bytes, none is named: the list does not tell which came
        last, and a part that is sent again does no harm.
        """
        with self._pool.connection() as http:
            waiting = self._waiting(http, key, upload_id)
        by_number: dict[int, list[StoredPart]] = {}
        for block, size in waiting:
            if block.number != wire.OPEN:
                by_number.setdefault(block.number, []).append(StoredPart(block.number, block.id, size, block.crc32c))
        for number in sorted(by_number):
            if len(by_number[number]) == 1:
                yield by_number[number][0]

    def complete(
        self, key: str, upload_id: str, parts: list[StoredPart], size: int, crc32c: int, precondition: Precondition
    ) -> Stored:
        """As the protocol says; attested PER_PART: blocks were checked on arrival, and the committed list is ours."""
        self._check_parts(key, upload_id, parts, size, crc32c)
        what = "cannot commit the blocks"
        try:
            attributes = wire.attributes_of(upload_id)
        except ValueError as error:
            raise UploadNotFound("not an upload of ours", where=self._calls.where(key), why=str(error)) from error
        headers = {
            "Content-Type": "application/xml",
            **wire.attribute_headers(attributes, self._calls.where(key)),
            **wire.condition_headers(precondition),
        }
        body = xml.build_block_list(part.part_id for part in parts)
        with self._pool.connection() as http:
            try:
                self._check_waiting(http, key, upload_id, parts)
            except UploadNotFound as gone:
                return self._repeated(http, key, parts, size, gone)
            target = self._calls.target(key, comp="blocklist")
            answer = self._calls.put(http, target, what, key=key, headers=headers, body=body)
            if answer.status < 300:
                return self._attested(http, key, etag_of(self._calls, answer, key), parts, size)
            refusal = self._calls.refused(answer, what, key=key, missing=written_where_nothing_is(precondition))
            if code_of(answer) == "InvalidBlockList":
                refusal = UploadNotFound(refusal.what, where=refusal.where, why=refusal.why)
            if isinstance(refusal, UploadNotFound | PreconditionFailed):
                return self._repeated(http, key, parts, size, refusal)
            raise refusal

    def abort(self, key: str, upload_id: str) -> None:
        """Mark an open upload as aborted, so that nobody continues or completes it; Azure drops its blocks itself."""
        with self._pool.connection() as http:
            try:
                self._waiting(http, key, upload_id)
            except UploadNotFound:
                return
            self._mark(http, key, upload_id, wire.ABORTED, "cannot abort the upload")

    def open_uploads(self, prefix: str = "") -> Iterator[tuple[str, str]]:
        """As the protocol says, of blobs that were never committed: of others Azure lists no blocks.

        The ids are good for looking and aborting; the attributes that a commit would set are not in them.
        """
        for name in self._listing.uncommitted(prefix):
            with self._pool.connection() as http:
                blocks = self._blocks(http, name, "uncommitted").uncommitted
            ours = [block for block_id, _ in blocks if (block := wire.parse_block(block_id))]
            aborted = {block.token for block in ours if block.number == wire.ABORTED}
            for block in ours:
                if block.number == wire.OPEN and block.token not in aborted:
                    yield name, block.token

    def _mark(self, http: HttpData, key: str, upload_id: str, number: int, what: str) -> None:
        block = wire.Block(wire.token_of(upload_id), number, checksum.crc32c(_MARK))
        target = self._calls.target(key, comp="block", blockid=block.id)
        answer = self._calls.put(http, target, what, key=key, headers={}, body=_MARK)
        if answer.status >= 300:
            raise self._calls.refused(answer, what, key=key, missing=BucketNotFound)

    def _waiting(self, http: HttpData, key: str, upload_id: str) -> list[tuple[wire.Block, int]]:
        """The upload's blocks with their sizes. Raises UploadNotFound."""
        token = wire.token_of(upload_id)
        try:
            listed = self._blocks(http, key, "uncommitted").uncommitted
        except ObjectNotFound:
            listed = []
        ours = [
            (block, size) for block_id, size in listed if (block := wire.parse_block(block_id)) and block.token == token
        ]
        numbers = {block.number for block, _ in ours}
        if wire.OPEN not in numbers or wire.ABORTED in numbers:
            raise UploadNotFound(
                "the upload is not open",
                where=self._calls.where(key),
                why="it was aborted, was committed, or another write of the blob dropped its blocks",
            )
        return ours

    def _check_parts(self, key: str, upload_id: str, parts: list[StoredPart], size: int, crc32c: int) -> None:
        """What can be checked before anything becomes visible."""
        where = self._calls.where(key)
        sums: list[tuple[int, int]] = []
        for part in parts:
            block = wire.parse_block(part.part_id)
            if block is None or (block.token, block.number) != (wire.token_of(upload_id), part.number):
                raise StoreRejected(f"part {part.number} is not of this upload", where=where, why=part.part_id)
            sums.append((block.crc32c, part.size))
        if sum(part.size for part in parts) != size:
            raise StoreRejected(f"the parts do not add up to {size} bytes", where=where)
        combined = checksum.combined_crc32c(sums)
        if combined != crc32c:
            raise ChecksumMismatch(
                "the parts' checksums do not combine to the object's",
                where=where,
                why=f"CRC32C {combined:08x}, expected {crc32c:08x}",
            )

    def _check_waiting(self, http: HttpData, key: str, upload_id: str, parts: list[StoredPart]) -> None:
        held = {block.id: size for block, size in self._waiting(http, key, upload_id)}
        for part in parts:
            if held.get(part.part_id) != part.size:
                raise StoreRejected(
                    f"Azure does not hold part {part.number}",
                    where=self._calls.where(key),
                    why=f"{held.get(part.part_id, 'no')} of {part.size} bytes",
                )

    def _attested(self, http: HttpData, key: str, etag: str, parts: list[StoredPart], size: int) -> Stored:
        """What Azure says about the blob that a commit made."""
        version, ours = self._committed(http, key, parts)
        if version != etag:
            # Overwritten already. Ours was committed; of what stands there now we can vouch for nothing.
            return Stored(etag, size)
        if not ours:
            raise ChecksumMismatch(
                "the blob does not consist of the blocks that we committed", where=self._calls.where(key)
            )
        return Stored(etag, size, attestation=Attestation.PER_PART)

    def _repeated(
        self, http: HttpData, key: str, parts: list[StoredPart], size: int, refusal: UploadNotFound | PreconditionFailed
    ) -> Stored:
        """What a commit that took effect before has left behind; raises ``refusal`` unless that is of our blocks."""
        version, ours = self._committed(http, key, parts)
        if not ours:
            raise refusal
        return Stored(version, size, attestation=Attestation.PER_PART)

    def _committed(self, http: HttpData, key: str, parts: list[StoredPart]) -> tuple[str, bool]:
        """The blob's version (nothing where there is none), and whether it consists of exactly these blocks."""
        what = "cannot look at the blocks"
        target = self._calls.target(key, comp="blocklist", blocklisttype="committed")
        try:
            answer = self._calls.send(http, "GET", target, what, key=key, limit=_LIST_LIMIT)
            blocks = xml.parse_block_list(answer.body).committed
        except ObjectNotFound:
            return "", False
        except ValueError as error:
            raise self._calls.garbled(error, key) from error
        return wire.from_etag(answer.headers.get("ETag", "")), blocks == [(part.part_id, part.size) for part in parts]

    def _blocks(self, http: HttpData, key: str, kind: str) -> xml.BlockList:
        target = self._calls.target(key, comp="blocklist", blocklisttype=kind)
        answer = self._calls.send(http, "GET", target, "cannot look at the blocks", key=key, limit=_LIST_LIMIT)
        try:
            return xml.parse_block_list(answer.body)
        except ValueError as error:
            raise self._calls.garbled(error, key) from error
