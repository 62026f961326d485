"""Listings of many pages: copying begins with the first, a crash is survived, and lies are noticed."""

from __future__ import annotations

import contextlib
import re
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator

import pytest

from skyplane_core.client import ClientConfig, Location, SkyplaneClient
from skyplane_core.dataplane import Dataplane
from skyplane_core.model import Credentials, StoreConfig
from skyplane_core.spec import Compare, TransferOptions, TransferState
from skyplane_core.testing.listserver import ListServer
from skyplane_core.testing.listserver.serve import STATE, Handler, Server
from skyplane_core.testing.objectserver import Fault, Faults, ObjectServer
from skyplane_core.tracker import Result
from tests.integration.engine.conftest import SECRET
from tests.servers.power_loss import lose_power

At = Callable[..., Location]
MIB = 1024 * 1024
PAGES = 3


def one_gateway() -> SkyplaneClient:
    return SkyplaneClient(ClientConfig(gateways=1, pool_bytes=64 * MIB, control_secret=SECRET))


@contextlib.contextmanager
def running(client: SkyplaneClient) -> Iterator[Dataplane]:
    plane = client.dataplane()
    with plane.auto_deprovision():
        plane.provision()
        yield plane


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def test_copying_begins_with_the_first_page(
    s3: ObjectServer, gcs: ObjectServer, source: At, destination: At, client: SkyplaneClient
) -> None:
    count = PAGES * 1000
    for number in range(count):
        s3.put("src", f"p/{number:06d}", b"x")
    # From the second page on listings are held, so that whatever arrives was on the first.
    s3.set_faults(Faults(Fault("ListObjects", "hold-before", nth=tuple(range(2, 100)))))
    with running(client) as plane:
        tracker = plane.submit(client.prepare(source("p/"), destination("q/"), recursive=True))
        until(lambda: tracker.progress().objects_copied == 1000, "the objects of the first page are copied")
        seen = tracker.progress()
        assert not seen.listing_done
        assert seen.objects_listed == 1000
        assert s3.wait_held()
        s3.set_faults(None)
        s3.release()
        tracker.wait().raise_for_state()
    assert len([key for key in gcs.list("dst", "q/") if ".skyplane" not in key]) == count


def test_a_head_that_is_killed_while_it_lists_is_continued() -> None:
    count = 200_000
    with (
        ListServer("s3", count, "b", latency=0.02) as s3,
        ListServer("gcs", count, "b", latency=0.02) as gcs,
    ):
        credentials = Credentials(access_key="AK", secret_key="secret")
        here = StoreConfig(
            "s3", "b", endpoint_url=s3.endpoint_url, region="us-east-1", path_style=True, credentials=credentials
        )
        there = StoreConfig("gcs", "b", endpoint_url=gcs.endpoint_url)
        client = one_gateway()
        ends = Location(here, "data/"), Location(there, "data/")
        options = TransferOptions(compare=Compare.EXACT)
        prepared = client.prepare(*ends, recursive=True, options=options)
        with running(client) as plane:
            tracker = plane.submit(prepared)
            until(lambda: tracker.progress().objects_skipped >= 20_000, "some of it is decided")
            assert not tracker.progress().listing_done
            lose_power(*plane.reference.gateways)
        left = gcs.behind.list("b")
        assert left, "the killed head has left nothing"
        assert not any(key.endswith("receipt.json") for key in left)
        again = client.prepare(
            *ends, recursive=True, options=options, transfer_id=prepared.spec.transfer_id, resume=True
        )
        with running(client) as plane:
            result = plane.submit(again).wait()
        result.raise_for_state()
        assert (result.progress.objects_skipped, result.progress.objects_copied) == (count, 0)
        lines = sum(gcs.behind.get("b", key).count(b"\n") for key in gcs.behind.list("b") if "/receipt-" in key)
        assert lines == count, "each object has one line in the receipt, those of the killed head are gone"
        assert not [key for key in gcs.behind.list("b") if "/journal-" in key]


class Liar(Server):
    """An object server whose listings ``tell`` something else."""

    def __init__(self, server: ObjectServer, tell: Callable[[bytes], bytes]) -> None:
        super().__init__(server.kind, 0, ("127.0.0.1", server.port), 0.0)
        self.RequestHandlerClass = Lying
        self.tell = tell

    @contextlib.contextmanager
    def serving(self) -> Iterator[str]:
        """Its URL."""
        thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{self.server_port}"
        finally:
            self.shutdown()
            self.server_close()
            thread.join()


class Lying(Handler):
    server: Liar

    def do_GET(self) -> None:  # noqa: N802 - the name of http.server
        url = urllib.parse.urlsplit(self.path)
        answer, content = self.fetch()
        if self.server.pages.is_listing(url.path, dict(urllib.parse.parse_qsl(url.query))) and STATE not in self.path:
            content = self.server.tell(content)
        self.pass_on(answer, content)


def swapped(page: bytes) -> bytes:
    return page.replace(b"p/a<", b"p/?<").replace(b"p/b<", b"p/a<").replace(b"p/?<", b"p/b<")


def size(lie: int) -> Callable[[bytes], bytes]:
    return lambda page: page.replace(b"<Size>10<", b"<Size>%d<" % lie)


def copied(at: Liar, client: SkyplaneClient, s3: ObjectServer, destination: At) -> Result:
    credentials = Credentials(access_key="AKTEST", secret_key="source-canary-secret")
    with at.serving() as url, running(client) as plane:
        store = StoreConfig("s3", "src", endpoint_url=url, region="us-east-1", path_style=True, credentials=credentials)
        # Signatures are about the address that was asked; the server behind has another one.
        s3.set_credentials(None)
        options = TransferOptions(max_attempts=2, part_size=5 * MIB)
        prepared = client.prepare(Location(store, "p/"), destination("q/"), recursive=True, options=options)
        return plane.submit(prepared).wait()


@pytest.mark.parametrize(
    ("tell", "why"),
    [(swapped, "order"), (lambda page: page.replace(b"p/b<", b"p/a<"), "order|repeats")],
    ids=["out-of-order", "repeated"],
)
def test_a_listing_out_of_order_fails_the_transfer(
    s3: ObjectServer, destination: At, tell: Callable[[bytes], bytes], why: str
) -> None:
    for name in "abc":
        s3.put("src", f"p/{name}", b"0123456789")
    result = copied(Liar(s3, tell), one_gateway(), s3, destination)
    assert result.progress.state is TransferState.FAILED
    assert re.search(why, result.progress.error)
    assert "p/a" in result.progress.error


@pytest.mark.parametrize("lie", [8, 12, 0], ids=["shorter", "longer", "empty"])
def test_a_listing_that_lies_about_a_size_fails_that_object_by_name(
    s3: ObjectServer, gcs: ObjectServer, destination: At, lie: int
) -> None:
    s3.put("src", "p/a", b"0123456789")
    s3.put("src", "p/b", b"honest")
    result = copied(Liar(s3, size(lie)), one_gateway(), s3, destination)
    assert result.progress.state is TransferState.FAILED
    assert [key for key, _why in result.progress.failures] == ["p/a"]
    assert [key for key in gcs.list("dst", "q/") if ".skyplane" not in key] == ["q/b"]


@pytest.mark.parametrize("lie", [11 * MIB, 13 * MIB], ids=["shorter", "longer"])
def test_the_same_of_an_object_in_parts(s3: ObjectServer, gcs: ObjectServer, destination: At, lie: int) -> None:
    s3.put("src", "p/a", bytes(12 * MIB))
    s3.put("src", "p/b", b"honest")

    def tell(page: bytes) -> bytes:
        return page.replace(b"<Size>%d<" % (12 * MIB), b"<Size>%d<" % lie)

    result = copied(Liar(s3, tell), one_gateway(), s3, destination)
    assert result.progress.state is TransferState.FAILED
    assert [key for key, _why in result.progress.failures] == ["p/a"]
    assert [key for key in gcs.list("dst", "q/") if ".skyplane" not in key] == ["q/b"]
    assert not gcs.uploads("dst")
