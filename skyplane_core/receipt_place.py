"""Where a receipt goes besides the state of its transfer, and in which format. Pure."""

from __future__ import annotations

import enum
import importlib.util

from skyplane_core.errors import UsageError
from skyplane_core.keys import listing_prefix
from skyplane_core.locations import Location, in_one_tree, same_store
from skyplane_core.selection import selects
from skyplane_core.spec import STATE_SEGMENT, Pick, Selection, TransferSpec
from skyplane_core.uri import parse

_STATE = f"/{STATE_SEGMENT}/"


class ReceiptFormat(enum.Enum):
    """How the lines of a receipt are written; an object's name says it by its ending."""

    LINES = "json lines"
    GZIP = "json lines, gzip"
    PARQUET = "parquet"


def format_of(name: str) -> ReceiptFormat:
    """By the ending of ``name``: ``.parquet``, ``.gz``, and JSON lines for every other one.

    Raises:
        UsageError: Parquet compresses by itself, and is not wrapped once more.
    """
    if name.endswith(".parquet"):
        return ReceiptFormat.PARQUET
    if name.endswith(".parquet.gz"):
        raise UsageError("Parquet is compressed already", where=name, next_step="Let the name end in .parquet.")
    return ReceiptFormat.GZIP if name.endswith(".gz") else ReceiptFormat.LINES


def receipt_name(name: str, transfer_id: str) -> str:
    """``name``, or where that is a prefix (it is empty, or ends in ``/``) ``<name><transfer_id>.jsonl``."""
    return name if name and not name.endswith("/") else f"{name}{transfer_id}.jsonl"


def check_format(name: str, *, remote: bool) -> None:
    """Refuse a format that whoever writes it cannot write.

    Args:
        remote: a gateway on another host writes it, which runs from a bundle.

    Raises:
        UsageError: Parquet without its library.
    """
    if format_of(name) is not ReceiptFormat.PARQUET:
        return
    if remote:
        raise UsageError(
            "gateways on other hosts write no Parquet",
            where=name,
            why="what they run from holds no library for it",
            next_step="Let the receipt's name end in .jsonl.gz.",
        )
    if importlib.util.find_spec("pyarrow") is None:
        raise UsageError(
            "the library 'pyarrow' is not installed",
            where=name,
            next_step="Install it with: pip install 'airflow-provider-skyplane[parquet]', or write .jsonl.gz.",
        )


def at_hand(uri: str, *ends: Location) -> Location | None:
    """Where ``uri`` points, with the credentials of the first end of the transfer that is in the same bucket."""
    endpoint = parse(uri, cwd="/")
    for end in ends:
        if endpoint.kind != "local" and (endpoint.kind, endpoint.bucket) == (end.store.kind, end.store.bucket):
            return Location(end.store, endpoint.key)
    return None


def check_aside(spec: TransferSpec) -> None:
    """Refuse a receipt among the objects that it is about: a later run would copy it, or a copy replace it.

    Raises:
        UsageError: it names the receipt.
    """
    receipt = spec.receipt
    if receipt is None:
        return
    for store, inside in ((spec.source, _in_source), (spec.destinations[0].store, _in_destination)):
        key = receipt.key
        if in_one_tree(store, receipt.store):
            # A directory may be named from above or from below.
            path, root = f"{receipt.store.bucket.rstrip('/')}/{key}", f"{store.bucket.rstrip('/')}/"
            if not path.startswith(root):
                continue
            key = path.removeprefix(root)
        elif not same_store(store, receipt.store):
            continue
        if any(inside(pick, key) for pick in spec.picks):
            raise UsageError(
                "the receipt would lie among the objects of the transfer",
                where=receipt.store.object_uri(receipt.key),
                next_step=f"Name a place outside of source and destination, or one below {STATE_SEGMENT}/ there.",
            )


def _in_source(pick: Pick, key: str) -> bool:
    selection = pick.selection
    # Filters may let it through another time.
    return selects(Selection(selection.prefix, single=selection.single, tree=selection.tree), key)


def _in_destination(pick: Pick, key: str) -> bool:
    prefix = listing_prefix(pick.mapping, pick.selection)
    if pick.selection.single:
        return key == prefix
    return key.startswith(prefix) and _STATE not in f"/{key}"
