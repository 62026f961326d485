"""Opening multipart uploads: what an object's parts need before the first of them is leased."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec

from skyplane_core.coordinator.journal import Journal, UploadRecord
from skyplane_core.coordinator.store import AgentStore
from skyplane_core.errors import SourceChanged
from skyplane_core.fidelity import Fitted, fit_at
from skyplane_core.model import ObjectAttributes, ObjectInfo
from skyplane_core.spec import SOURCE_VERSION_KEY, TransferSpec, Verification

PLAIN = ObjectAttributes(content_type="application/octet-stream")
"""What an object gets when attributes are not kept: the default type of every store, said explicitly."""


def plain(tags: dict[str, str]) -> ObjectAttributes:
    """The attributes of a copy that keeps none of the source's but, where they are asked for, its tags."""
    return msgspec.structs.replace(PLAIN, tags=tags) if tags else PLAIN


def mtime_ns(info: ObjectInfo) -> int | None:
    """When a listed object was modified, in nanoseconds since the epoch, as far as its listing says."""
    return round(info.modified * 1e9) or None


def tagged(info: ObjectInfo, tags: dict[str, str]) -> ObjectInfo:
    """``info`` with these tags."""
    if not tags:
        return info
    attributes = msgspec.structs.replace(info.attributes or ObjectAttributes(), tags=tags)
    return msgspec.structs.replace(info, attributes=attributes)


class Uploads:
    """Opens the uploads of one transfer and numbers its objects. Thread-safe."""

    def __init__(
        self, spec: TransferSpec, source: AgentStore, destinations: dict[int, AgentStore], journal: Journal
    ) -> None:
        self._spec = spec
        self._source = source
        self._destinations = destinations
        self._journal = journal
        self._numbers = itertools.count(1)

    def number(self) -> int:
        """A number that no object of this transfer has had from this coordinator."""
        return next(self._numbers)

    @property
    def leaves_tags(self) -> bool:
        """Whether tags are kept and nothing is added to them, so that a store that copies can do so unseen."""
        rules = self._spec.options.attributes
        return rules.keep_tags and not rules.tags

    def described(self, info: ObjectInfo, *, with_tags: bool = True) -> ObjectInfo:
        """``info`` with all that an upload in parts needs: by one HEAD, if the listing did not tell it.

        That is the attributes, where they are kept, and the source's own checksum, which answers to ranged reads do not
        carry.

        Raises:
            SourceChanged: the object is no longer the one that was listed.
        """
        options = self._spec.options
        told = info.crc32c is not None or info.crc64nvme is not None
        no_sum = not told and options.verify is not Verification.NONE
        tags = self.tags(info) if with_tags else {}
        if not no_sum and not (options.keep_attributes and info.attributes is None):
            return tagged(info, tags)
        found = self._source.head(info.key)
        if (found.version, found.size) != (info.version, info.size):
            raise SourceChanged(
                "the source object is not as it was listed",
                where=self._spec.source.object_uri(info.key),
                why=f"listed with {info.size} bytes at {info.version}, it has {found.size} at {found.version}",
            )
        described = msgspec.structs.replace(
            info,
            attributes=found.attributes or ObjectAttributes(),
            crc32c=found.crc32c if info.crc32c is None else info.crc32c,
            crc64nvme=found.crc64nvme,
            other_checksum=found.other_checksum,
        )
        return tagged(described, tags)

    def open(self, info: ObjectInfo, destination: int, key: str, part_size: int) -> str:
        """Open an upload for an object that was :meth:`described`, record it durably, and return its id."""
        attributes = self.fitted(info, destination, key).attributes
        upload_id = self._destinations[destination].create_upload(key, attributes)
        try:
            self._journal.record(
                UploadRecord(info.key, info.version, info.size, destination, key, upload_id, part_size)
            )
        except Exception:
            # Without a durable record nobody would ever find this upload again.
            self._destinations[destination].abort_upload(key, upload_id)
            raise
        return upload_id

    def fitted(self, info: ObjectInfo, destination: int, key: str) -> Fitted:
        """The attributes that the copy of an object that was :meth:`described` gets.

        Raises:
            StoreRejected: the destination cannot hold them.
        """
        options = self._spec.options
        attributes = info.attributes or ObjectAttributes()
        if not options.keep_attributes:
            attributes = plain(attributes.tags)
        elif attributes.mtime_ns is None:
            attributes = msgspec.structs.replace(attributes, mtime_ns=mtime_ns(info))
        if options.record_source:
            metadata = {**attributes.metadata, SOURCE_VERSION_KEY: info.version}
            attributes = msgspec.structs.replace(attributes, metadata=metadata)
        config = self._spec.destinations[destination].store
        return fit_at(attributes, options.attributes, config, config.object_uri(key))

    def retagged(self, tags: dict[str, str]) -> dict[str, Any]:
        """What tags change in the target of an object that gateways put in one piece."""
        return {"tags": tags} if self._spec.options.keep_attributes else {"tags": tags, "attributes": plain(tags)}

    def tags(self, info: ObjectInfo) -> dict[str, str]:
        """The object's tags, where they are kept: one request."""
        return self._source.tags(info.key) if self._spec.options.attributes.keep_tags else {}
