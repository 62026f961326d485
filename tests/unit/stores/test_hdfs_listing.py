"""Any tree, listed through any window, comes in the order of its keys' bytes."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from skyplane_core.errors import ObjectNotFound
from skyplane_core.stores.hdfs_client import Status
from skyplane_core.stores.hdfs_listing import Listing
from skyplane_core.stores.tree import Window

NAMES = st.text(st.sampled_from("a!-./0é漢"), min_size=1, max_size=3).filter(
    lambda name: "/" not in name and name not in (".", "..")
)
TREES = st.recursive(st.integers(0, 9), lambda inner: st.dictionaries(NAMES, inner, max_size=4), max_leaves=12).filter(
    lambda tree: isinstance(tree, dict)
)
Tree = dict


class Cluster:
    """A tree as a NameNode answers about it: entries by the signed bytes of their names, so that é is before a."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    def find(self, path: str, _where: str) -> Status | None:
        try:
            return status(path, self._at(path))
        except ObjectNotFound:
            return None

    def entries(self, path: str, _where: str) -> Iterator[Status]:
        found = self._at(path)
        for name in sorted(found, key=lambda name: [byte - 256 if byte > 127 else byte for byte in name.encode()]):
            yield status(f"{path.rstrip('/')}/{name}", found[name])

    def _at(self, path: str) -> Tree | int:
        found: Tree | int = self._tree
        for name in path.removeprefix("/root").strip("/").split("/"):
            if name:
                if not isinstance(found, dict) or name not in found:
                    raise ObjectNotFound("not there")
                found = found[name]
        return found


def status(path: str, node: Tree | int) -> Status:
    return Status(path, 0 if isinstance(node, dict) else node, isinstance(node, dict), 1000, 0o755)


def keys_of(tree: Tree, above: str = "") -> Iterator[str]:
    for name, node in tree.items():
        if not isinstance(node, dict):
            yield above + name
        elif node:
            yield from keys_of(node, f"{above}{name}/")
        else:
            yield f"{above}{name}/"


@given(TREES, st.text("a!-./0é漢", max_size=4), st.text("a!-./0é漢", max_size=4), st.sampled_from(["", "/", "-"]))
def test_a_listing_is_what_is_wanted_in_order(tree: Tree, prefix: str, start_after: str, delimiter: str) -> None:
    listed = [info.key for info in Listing(Cluster(tree), "/root", Window(prefix, start_after, delimiter), "hdfs://nn")]
    assert listed == sorted(
        (
            key
            for key in keys_of(tree)
            if key.startswith(prefix)
            and key.encode() > start_after.encode()
            and not (delimiter and delimiter in key[len(prefix) :])
        ),
        key=str.encode,
    )
