"""Rules for attributes, checked before anything is provisioned or written. Pure. fidelity.py follows them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from skyplane_core.errors import UsageError
from skyplane_core.fidelity import CONTENT_HEADERS
from skyplane_core.model import Attestation, AttributeRules, StoreConfig, Unfit
from skyplane_core.spec import Compare, TransferOptions, Verification
from skyplane_core.stores.base import Capabilities
from skyplane_core.stores.holding import Holding, Mtime, holding

_OF_SOURCE = ("keep_mtime", "keep_mode", "keep_storage_class", "metadata_rename", "metadata_drop")


def rules_of(values: Mapping[str, Any]) -> AttributeRules:
    """The rules for attributes that a mapping names.

    Raises:
        UsageError: an unknown name or a value that cannot be one.
    """
    try:
        return msgspec.convert(dict(values), AttributeRules)
    except msgspec.ValidationError as error:
        raise UsageError(
            "the rules for attributes cannot be used",
            why=str(error).replace("`", ""),
            next_step=f"Known rules: {', '.join(AttributeRules.__struct_fields__)}.",
        ) from None


def check_attributes(options: TransferOptions, source: StoreConfig, destination: StoreConfig) -> None:
    """Refuse rules that contradict themselves, or that the destination can never follow.

    Raises:
        UsageError: naming the rule, and what is possible.
    """
    rules, holds = options.attributes, holding(destination)
    _check_sense(options, source)
    for what in _no_place(rules, holds):
        raise UsageError(
            f"there is no place for {what}", where=destination.uri, next_step="Leave the rule for them out."
        )
    if (rules.keep_tags or rules.tags) and not holds.tags and rules.unfit is Unfit.FAIL:
        raise UsageError(
            "there is no place for tags",
            where=destination.uri,
            next_step="Choose unfit=rename (metadata tag-*) or drop.",
        )
    if rules.storage_class and holds.storage_classes and rules.storage_class not in holds.storage_classes:
        raise UsageError(
            f"no storage class {rules.storage_class!r}",
            where=destination.uri,
            next_step=f"{holds.name} has: {', '.join(holds.storage_classes)}.",
        )
    if rules.keep_mtime and holds.mtime is Mtime.SET and options.compare is Compare.MTIME:
        raise UsageError(
            "keep_mtime and comparing by size+mtime contradict each other",
            where=destination.uri,
            why="that compares when a copy was written, which its file would no longer tell",
            next_step="Compare by exact, or leave keep_mtime out.",
        )
    _check_metadata(rules, holds, destination.uri)


def _check_sense(options: TransferOptions, source: StoreConfig) -> None:
    rules = options.attributes
    for name in _OF_SOURCE:
        if getattr(rules, name) and not options.keep_attributes:
            raise UsageError(f"{name} needs keep_attributes", why="without them nothing of the source's is kept")
    if rules.storage_class and rules.keep_storage_class:
        raise UsageError("storage_class and keep_storage_class contradict each other", next_step="Leave one out.")
    if rules.keep_tags and not holding(source).tags:
        raise UsageError("keep_tags has no meaning there", where=source.uri, why="objects have no tags")


def _no_place(rules: AttributeRules, holds: Holding) -> Iterator[str]:
    if (rules.storage_class or rules.keep_storage_class) and not holds.classes:
        yield "storage classes"
    if rules.keep_mtime and holds.mtime is Mtime.NOWHERE:
        yield "times of modification"
    if rules.keep_mode and not (holds.mode or holds.metadata):
        yield "permissions"
    if rules.metadata and not holds.metadata:
        yield "metadata"
    if any(getattr(rules, name) for name in CONTENT_HEADERS) and not holds.content_headers:
        yield "content headers"


def _check_metadata(rules: AttributeRules, holds: Holding, where: str) -> None:
    for name in (*rules.metadata, *rules.metadata_rename.values()):
        if not re.fullmatch(holds.metadata_names, name):
            raise UsageError(f"{name!r} is no name for metadata there", where=where, next_step="Choose another one.")
    for name, value in rules.metadata.items():
        if not re.fullmatch(holds.metadata_values, value):
            raise UsageError(f"the metadata {name!r} cannot have the value {value!r} there", where=where)


def check_readable(options: TransferOptions, destination: Capabilities, config: StoreConfig) -> None:
    """Refuse an archive's storage class where copies have to be read back, which they could not be.

    Raises:
        UsageError: naming the class.
    """
    storage_class = options.attributes.storage_class
    reads_back = options.verify is Verification.FULL or (
        destination.attestation is Attestation.READ_BACK and options.verify is not Verification.NONE
    )
    if reads_back and storage_class in holding(config).archives:
        raise UsageError(
            f"copies of storage class {storage_class} could not be read back",
            where=config.uri,
            why="verify=full asks for it" if options.verify is Verification.FULL else "the store attests nothing else",
            next_step="Choose another class or another verify, and let a lifecycle rule archive the objects.",
        )
