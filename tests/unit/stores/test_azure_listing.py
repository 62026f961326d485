"""The order of listings: whatever names an account holds, and however it lists them."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyplane_core.errors import StoreRejected
from skyplane_core.listing import ordered
from skyplane_core.model import StoreConfig
from skyplane_core.stores.azure import AzureStore
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


def test_a_flat_listing_begins_where_it_is_asked_to_and_costs_one_request_a_page() -> None:
    with ObjectServer("azure", buckets=["box"]) as server:
        for number in range(30):
            server.put("box", f"{number:03}", b"x")
        listing = store(server)
        assert [info.key for info in listing.list(start_after="027")] == ["028", "029"]
        requests = server.requests["ListObjects"]
        list(listing.list(start_after="027"))
        assert server.requests["ListObjects"] == requests + 1
        listing.close()


def test_parameters_of_a_listing_are_encoded() -> None:
    from skyplane_core.stores.azure_sign import address

    target = address(StoreConfig("azure", "account/box")).target(prefix="a b&c=d/é", marker="2!92!x==")
    assert parse_qs(target.partition("?")[2]) == {"prefix": ["a b&c=d/é"], "marker": ["2!92!x=="]}
