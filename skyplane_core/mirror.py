"""What a sync that deletes may take away at its destination, and how much of it at most. Pure. See docs/sync.md."""

from __future__ import annotations

from collections.abc import Callable

from skyplane_core.errors import DeletionRefused
from skyplane_core.filters import Filters, Passing
from skyplane_core.model import ObjectInfo
from skyplane_core.selection import reserved, tree_root
from skyplane_core.spec import DeleteCap, KeyMapping
from skyplane_core.units import counted


def may_go(filters: Filters, mapping: KeyMapping, now: float) -> Callable[[ObjectInfo], bool]:
    """Says which destination objects may be deleted where no source object maps to them.

    Not our own state, not the folder marker of the destination itself, and nothing that the filters leave out: the same
    rules hold on both sides, for names relative to the roots.
    """
    root = tree_root(mapping.destination)
    passing = Passing(filters, now)

    def may(there: ObjectInfo) -> bool:
        name = there.key.removeprefix(root)
        return bool(name) and not reserved(root, there.key) and passing(name, there)

    return may


def source_key(mapping: KeyMapping, destination_key: str) -> str:
    """The key that a tree's mapping maps to ``destination_key``."""
    return tree_root(mapping.source) + destination_key.removeprefix(tree_root(mapping.destination))


def check_cap(cap: DeleteCap, objects: int, held: int, where: str) -> None:
    """Refuse to delete more than the cap allows.

    Args:
        objects: how many would go.
        held: how many the destination held, those that may not go left out.
        where: the destination's URI.

    Raises:
        DeletionRefused: nothing was deleted yet, and nothing is to be.
    """
    too_many = cap.objects is not None and objects > cap.objects
    too_large = cap.percent is not None and objects * 100 > cap.percent * held
    if not (too_many or too_large):
        return
    allowed = f"{cap.objects}" if too_many else f"{cap.percent:g}%"
    count = f"{objects:,} of {counted(held, 'object')} {'has' if objects == 1 else 'have'}"
    raise DeletionRefused(
        "the sync would delete more than it may, so it deletes nothing",
        where=where,
        why=f"{count} no counterpart at the source, and the limit is {allowed}",
        next_step="Look at them with a dry run; if they are to go, allow more (--max-delete, max_delete).",
    )
