import asyncio
import ssl

import httpx
import msgspec
import pytest

from skyplane_core import control_tls
from skyplane_core.control import AsyncControlChannel, ControlChannel, GatewayStatus, PeerAddress
from skyplane_core.control_calls import MAX_ANSWER_BYTES, Request, Response
from skyplane_core.errors import (
    ErrorRecord,
    GatewayRefused,
    GatewayUnreachable,
    PermissionDenied,
    SkyplaneError,
    TransferNotFound,
)
from skyplane_core.identity import CLIENT_LIFETIME_SECONDS, DataplaneIdentity, new_dataplane_id
from skyplane_core.model import Credentials, GatewayTransfer, StoreConfig
from skyplane_core.spec import Progress, TransferState

OK = Response(200, b"{}")


class Recorder:
    """A transport that answers what it is told."""

    where = "gateway gw-0 at nowhere:1"

    def __init__(self, answer: Response = OK) -> None:
        self.answer = answer
        self.requests: list[Request] = []

    def send(self, request: Request) -> Response:
        self.requests.append(request)
        return self.answer

    def close(self) -> None:
        self.closed = True


class AsyncRecorder(Recorder):
    async def send(self, request):
        return super().send(request)

    async def close(self):
        super().close()


TRANSFER = GatewayTransfer("t 1/ü", source=StoreConfig("s3", "b", credentials=Credentials("id", "canary")))
CALLS = [
    ("set_peers", ((PeerAddress("gw-1", "h", 1),),), "PUT", "/peers"),
    ("put_transfer", (TRANSFER,), "PUT", "/transfers/t%201%2F%C3%BC"),
    ("cancel", ("t1",), "POST", "/transfers/t1/cancel"),
    ("delete", ("t1",), "DELETE", "/transfers/t1"),
    ("shutdown", (), "POST", "/shutdown"),
]


@pytest.mark.parametrize(("name", "arguments", "method", "path"), CALLS)
def test_both_twins_send_the_same(name, arguments, method, path):
    plain, async_ = Recorder(), AsyncRecorder()
    with ControlChannel(plain) as channel:
        assert getattr(channel, name)(*arguments) is None

    async def run():
        async with AsyncControlChannel(async_) as channel:
            assert await getattr(channel, name)(*arguments) is None

    asyncio.run(run())
    assert plain.requests == async_.requests
    assert (plain.requests[0].method, plain.requests[0].path) == (method, path)
    assert plain.closed
    assert async_.closed


def test_the_twins_have_the_same_calls():
    def names(cls):
        return {name for name in vars(cls) if not name.startswith("_")}

    assert names(ControlChannel) == names(AsyncControlChannel)


def test_answers_are_typed():
    progress = Progress("t1", TransferState.RUNNING, bytes_acked=5)
    assert ControlChannel(Recorder(Response(200, msgspec.json.encode(progress)))).progress("t1") == progress
    status = GatewayStatus("gw-0", "dp", "1", 1.0, 2.0, transfers={"t1": TransferState.DONE})
    assert ControlChannel(Recorder(Response(200, msgspec.json.encode(status)))).status() == status


def test_what_the_gateway_reports_is_raised():
    def call(record: ErrorRecord, status: int = 404) -> None:
        ControlChannel(Recorder(Response(status, msgspec.json.encode(record)))).progress("t1")

    with pytest.raises(TransferNotFound, match="gw-0 at nowhere"):
        call(TransferNotFound("no").record())
    with pytest.raises(PermissionDenied, match="s3://b/k"):
        call(PermissionDenied("no", where="s3://b/k").record(), 500)
    with pytest.raises(SkyplaneError, match="news"):
        call(ErrorRecord("ErrorOfTheFuture", "news"))


@pytest.mark.parametrize(
    "response", [Response(200, b"<html>"), Response(200, b"{}"), Response(502, b"Bad gateway"), Response(301, b"")]
)
def test_what_is_no_answer_of_ours_is_refused(response):
    with pytest.raises(GatewayRefused):
        ControlChannel(Recorder(response)).progress("t1")


def test_a_request_shows_no_body():
    assert "canary" not in repr(Request("PUT", "/x", msgspec.json.encode(TRANSFER)))


# --- the direct transport ------------------------------------------------------------------------------------------


@pytest.fixture
def identity() -> DataplaneIdentity:
    return DataplaneIdentity(b"s" * 32, new_dataplane_id())


class Body(httpx.SyncByteStream):
    """A body that has not arrived yet, as a real one."""

    def __init__(self, *chunks: bytes) -> None:
        self.chunks = chunks

    def __iter__(self):
        return iter(self.chunks)


def direct(identity, monkeypatch, handler) -> ControlChannel:
    client = httpx.Client

    def mocked(*, verify, **settings):
        assert isinstance(verify, ssl.SSLContext)
        assert settings["trust_env"] is False
        return client(transport=httpx.MockTransport(handler), **settings)

    monkeypatch.setattr(httpx, "Client", mocked)
    return control_tls.connect(identity, "gw-0", "10.1.2.3", 1234)


def test_the_name_is_asked_for_whatever_the_address(identity, monkeypatch):
    def answer(request):
        assert str(request.url) == "https://10.1.2.3:1234/transfers/t1/cancel"
        assert request.extensions["sni_hostname"] == identity.server_name("gw-0")
        assert request.headers["accept-encoding"] == "identity"
        return httpx.Response(200, stream=Body(b"{}"))

    direct(identity, monkeypatch, answer).cancel("t1")


def test_an_ipv6_address_is_bracketed(identity, monkeypatch):
    with control_tls.connect(identity, "gw-0", "::1", 9) as channel, pytest.raises(GatewayUnreachable, match="::1:9"):
        channel.status()


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (ConnectionRefusedError("no"), GatewayUnreachable),
        (ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), GatewayUnreachable),
        (ssl.SSLCertVerificationError(1, "certificate verify failed"), GatewayRefused),
    ],
)
def test_a_lost_connection_is_not_a_refusal(identity, monkeypatch, cause, expected):
    def fail(_request):
        raise httpx.ConnectError("no") from cause

    with pytest.raises(expected, match=r"gateway gw-0 at 10\.1\.2\.3:1234"):
        direct(identity, monkeypatch, fail).status()


def test_a_timeout_is_unreachable(identity, monkeypatch):
    def fail(_request):
        raise httpx.ReadTimeout("")

    with pytest.raises(GatewayUnreachable, match="ReadTimeout"):
        direct(identity, monkeypatch, fail).status()


def test_an_endless_answer_is_refused(identity, monkeypatch):
    def answer(_request):
        return httpx.Response(200, stream=Body(*[b"x" * 65536] * (MAX_ANSWER_BYTES // 65536 + 1)))

    with pytest.raises(GatewayRefused, match="longer than"):
        direct(identity, monkeypatch, answer).status()


def test_the_client_certificate_is_renewed_in_time(identity, monkeypatch):
    minted = []
    original = DataplaneIdentity.client_certificate
    monkeypatch.setattr(
        DataplaneIdentity, "client_certificate", lambda self, now=None: minted.append(1) or original(self, now)
    )
    channel = direct(identity, monkeypatch, lambda _request: httpx.Response(200, stream=Body(b"{}")))
    channel.cancel("t1")
    assert len(minted) == 1
    later = control_tls.time.time() + CLIENT_LIFETIME_SECONDS / 2 + 1
    monkeypatch.setattr(control_tls.time, "time", lambda: later)
    channel.cancel("t1")
    channel.cancel("t1")
    assert len(minted) == 2
