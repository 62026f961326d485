"""How one store of a transfer is reached and written, beyond its URI: what a user may set for either end. Pure."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping

import msgspec

from skyplane_core.errors import UsageError
from skyplane_core.model import StoreConfig
from skyplane_core.stores.holding import holding
from skyplane_core.stores.s3_sign import is_ip_address

_CLOUD_KEY = re.compile(r"projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+(/cryptoKeyVersions/[^/]+)?")
_KINDS = {
    "endpoint_url": ("s3", "gcs", "azure"),
    "region": ("s3",),
    "account": ("s3",),
    "addressing": ("s3",),
    "project": ("gcs",),
    "requester_pays": ("s3", "gcs"),
    "anonymous": ("s3", "gcs", "azure"),
    "encryption": ("s3",),
    "kms_key": ("s3", "gcs"),
    "acl": ("s3",),
    "match_glob": ("gcs",),
    "object_version": ("s3", "gcs"),
    "symlinks": ("local",),
}
"""Which kinds of stores take which option. Of a kind that is nowhere here nothing is known, and nothing refused."""
_KNOWN = frozenset({"hdfs", *(kind for kinds in _KINDS.values() for kind in kinds)})
_FOR_SOURCES = ("match_glob", "object_version")
_FOR_DESTINATIONS = ("encryption", "kms_key", "acl")
_ACLS = (
    "private",
    "public-read",
    "public-read-write",
    "authenticated-read",
    "aws-exec-read",
    "bucket-owner-read",
    "bucket-owner-full-control",
)
"""S3 user guide, "Canned ACL", without the one that is for buckets."""


class Addressing(enum.Enum):
    """How an S3 bucket is named: in the path, in the host, or as the endpoint suggests."""

    AUTO = "auto"
    PATH = "path"
    VIRTUAL = "virtual"


class Symlinks(enum.Enum):
    """What becomes of the links in a local source: what they lead to is read, or they are left out."""

    FOLLOW = "follow"
    SKIP = "skip"


class StoreOptions(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Options of one end of a transfer.

    Args:
        endpoint_url: of an S3-compatible server or an emulator; empty for the environment's or the cloud's own.
        region: of an S3 bucket; of an IBM COS bucket it also gives the endpoint.
        account: the Cloudflare account of an R2 bucket.
        addressing: see :class:`Addressing`.
        project: the Google Cloud project that is billed.
        requester_pays: agree to pay for the requests (and, with GCS, name the ``project`` that does).
        anonymous: use no credentials, whatever the surroundings hold.
        encryption: how S3 encrypts what is written: ``AES256``, ``aws:kms`` or ``aws:kms:dsse``.
        kms_key: the key that what is written is encrypted with; on S3 it implies ``aws:kms``.
        acl: the canned access control list of every copy; empty for S3's own default, ``private``.
        match_glob: of a GCS source only what matches this pattern of whole names is listed, by the rules of GCS: ``*``
            stops at ``/``, ``**`` does not.
        object_version: of a source that is one object, this version of it: an S3 version id, or a GCS generation.
        symlinks: see :class:`Symlinks`.
    """

    endpoint_url: str = ""
    region: str = ""
    account: str = ""
    addressing: Addressing = Addressing.AUTO
    project: str = ""
    requester_pays: bool = False
    anonymous: bool = False
    encryption: str = ""
    kms_key: str = ""
    acl: str = ""
    match_glob: str = ""
    object_version: str = ""
    symlinks: Symlinks = Symlinks.FOLLOW

    @classmethod
    def of(cls, values: Mapping[str, object]) -> StoreOptions:
        """The options that a mapping names.

        Raises:
            UsageError: an unknown name or a value of the wrong type.
        """
        try:
            return msgspec.convert(dict(values), cls)
        except msgspec.ValidationError as error:
            raise UsageError(
                "the options of a store cannot be used",
                why=str(error).replace("`", ""),
                next_step=f"Known options: {', '.join(cls.__struct_fields__)}.",
            ) from None

    def check(self, kind: str, where: str, *, written: bool) -> None:
        """Refuse what this kind of store does not take.

        Args:
            written: it is the destination.

        Raises:
            UsageError: naming the option.
        """
        for name in self.__struct_fields__:
            if getattr(self, name) == getattr(StoreOptions(), name):
                continue
            if kind in _KNOWN and kind not in _KINDS[name]:
                raise UsageError(
                    f"{name} means nothing there", where=where, why=f"it is for {' and '.join(_KINDS[name])}"
                )
            if name in _FOR_DESTINATIONS and not written:
                raise UsageError(f"{name} is for a destination", where=where, why="a source is not written")
            if name in _FOR_SOURCES and written:
                raise UsageError(f"{name} is for a source", where=where, why="it says what is copied")
        if kind == "gcs" and self.requester_pays and not self.project:
            raise UsageError(
                "requester_pays needs a project to bill", where=where, next_step="Name it with the option project."
            )
        if kind == "gcs" and self.kms_key and not _CLOUD_KEY.fullmatch(self.kms_key):
            raise UsageError(
                f"kms_key is {self.kms_key!r}",
                where=where,
                why="Google Cloud's keys are called projects/P/locations/L/keyRings/R/cryptoKeys/K",
            )
        if self.addressing is Addressing.VIRTUAL and is_ip_address(self.endpoint_url):
            raise UsageError(
                "a bucket cannot be named in front of an IP address",
                where=self.endpoint_url,
                next_step="Leave addressing out, or name the server by its host name.",
            )
        if kind == "s3" and self.encryption == "AES256" and self.kms_key:
            raise UsageError("AES256 takes no kms_key", where=where, next_step="Use aws:kms, or leave the key out.")
        if self.acl and self.acl not in _ACLS:
            raise UsageError(
                f"no access control list {self.acl!r}", where=where, next_step=f"Use one of: {', '.join(_ACLS)}."
            )

    def applied(self, config: StoreConfig) -> StoreConfig:
        """``config`` with these options, all but those that say where it is and who asks.

        Raises:
            UsageError: the service does not know the encryption.
        """
        encryption = self.encryption or ("aws:kms" if self.kms_key and config.kind == "s3" else "")
        known = holding(config).encryptions
        if encryption and encryption not in known:
            raise UsageError(
                f"no encryption {encryption!r}",
                where=config.uri,
                next_step=f"Use one of: {', '.join(known)}." if known else "Leave it out.",
            )
        return msgspec.structs.replace(
            config,
            project=self.project or config.project,
            requester_pays=self.requester_pays or config.requester_pays,
            path_style=config.path_style if self.addressing is Addressing.AUTO else self.addressing is Addressing.PATH,
            virtual_host=self.addressing is Addressing.VIRTUAL,
            encryption=encryption,
            kms_key=self.kms_key,
            acl=self.acl,
            match_glob=self.match_glob,
            object_version=self.object_version,
            symlinks=self.symlinks.value,
        )
