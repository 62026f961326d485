"""The order of listings: whatever names an account holds, and however it lists them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyplane_core.errors import StoreRejected
from skyplane_core.listing import ordered
from skyplane_core.model import StoreConfig
from skyplane_core.stores import azure_listing
from skyplane_core.stores.azure import AzureStore
from skyplane_core.stores.azure_places import Places
from skyplane_core.testing.objectserver import ObjectServer

SEGMENT = st.text("a-./!0~é\U0001f6f0", min_size=1, max_size=3).filter(lambda text: "/" not in text and text[-1] != ".")
NAMES = st.lists(SEGMENT, min_size=1, max_size=4).map("/".join)


def tree(names: list[str]) -> list[str]:
    """Those of the names that can be files of one tree: none is another's directory."""
    found: list[str] = []
    for name in dict.fromkeys(names):
        if not any(other.startswith(f"{name}/") or name.startswith(f"{other}/") for other in found):
            found.append(name)
    return found


@pytest.fixture(scope="module", params=[False, True], ids=["flat", "hierarchical"])
def server(request: pytest.FixtureRequest) -> Iterator[ObjectServer]:
    with ObjectServer("azure", buckets=["box"], hierarchical=request.param) as running:
        yield running


def store(server: ObjectServer) -> AzureStore:
    return AzureStore(StoreConfig("azure", "account/box", endpoint_url=server.endpoint_url))


@pytest.fixture(scope="module", params=[2, 1000], ids=["short-pages", "long-pages"])
def pages(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(azure_listing, "_PAGE", request.param)
        yield


@pytest.mark.usefixtures("pages")
@given(names=st.lists(NAMES, max_size=12), prefix=st.sampled_from(["", "a", "a/", "-", "a-/"]), after=NAMES)
def test_every_listing_is_in_the_order_of_utf8(server: ObjectServer, names: list[str], prefix: str, after: str) -> None:
    for key in server.list("box"):
        server.delete("box", key)
    held = tree(names)
    for name in held:
        server.put("box", name, b"x")
    listing = store(server)
    wanted = sorted((name for name in held if name.startswith(prefix)), key=str.encode)
    assert [info.key for info in ordered(listing.list(prefix), listing.uri)] == wanted
    shallow = [name for name in wanted if "/" not in name[len(prefix) :]]
    assert [info.key for info in listing.list(prefix, delimiter="/")] == shallow
    later = [name for name in wanted if name.encode() > after.encode()]
    # Anew, as the agent of another gateway would be asked.
    other = store(server)
    assert [info.key for info in other.list(prefix, start_after=after)] == later
    other.close()
    # In pieces, from pages that are remembered.
    pieces: list[str] = []
    while piece := [info.key for info in itertools.islice(listing.list(prefix, start_after=(pieces or [""])[-1]), 2)]:
        pieces += piece
    assert pieces == wanted
    listing.close()


def test_an_order_that_only_utf16_has_is_refused_by_name() -> None:
    with ObjectServer("azure", buckets=["box"]) as server:
        for name in ("a/\U0001f6f0", "a/\uff21"):
            server.put("box", name, b"x")
        listing = store(server)
        with pytest.raises(StoreRejected, match="order of their UTF-8 bytes") as caught:
            list(listing.list())
        assert caught.value.where == "az://account/box/a/\uff21"
        assert [info.key for info in listing.list("a/\uff21")] == ["a/\uff21"]
        listing.close()


@pytest.mark.parametrize("hierarchical", [False, True])
def test_a_listing_that_goes_on_costs_no_page_before(monkeypatch: pytest.MonkeyPatch, *, hierarchical: bool) -> None:
    monkeypatch.setattr(azure_listing, "_PAGE", 10)
    names = [f"d/{number:03}" for number in range(100)]
    with ObjectServer("azure", buckets=["box"], hierarchical=hierarchical) as server:
        for name in names:
            server.put("box", name, b"x")
        listing = store(server)
        found: list[str] = []
        for _ in range(100):
            before = server.requests["ListObjects"]
            page = [
                info.key for info in itertools.islice(listing.list("d/", start_after=found[-1] if found else ""), 7)
            ]
            # Its own page or two, and in a hierarchical namespace the directory's.
            assert server.requests["ListObjects"] - before <= 3
            if not page:
                break
            found += page
        assert found == names
        listing.close()


@given(
    st.lists(st.tuples(NAMES, st.text(min_size=1, max_size=3)), max_size=20),
    NAMES,
)
def test_a_remembered_place_never_skips_what_comes_after(pages: list[tuple[str, str]], after: str) -> None:
    places = Places()
    for first, marker in pages:
        places.note(("box",), first, marker)
    marker = places.find(("box",), after)
    assert places.find(("other",), after) == places.find(("box",), "") == ""
    begins = [first for first, known in pages if known == marker]
    assert not marker or min(first.encode("utf-16-be") for first in begins) <= after.encode("utf-16-be")


def test_parameters_of_a_listing_are_encoded() -> None:
    from skyplane_core.stores.azure_sign import address

    target = address(StoreConfig("azure", "account/box")).target(prefix="a b&c=d/é", marker="2!92!x==")
    assert parse_qs(target.partition("?")[2]) == {"prefix": ["a b&c=d/é"], "marker": ["2!92!x=="]}
