import pickle
import socket
import ssl
import threading

import pytest
from cryptography import x509

from skyplane_core.errors import UsageError
from skyplane_core.identity import CLIENT_LIFETIME_SECONDS, DataplaneIdentity, created_at, new_dataplane_id
from skyplane_core.tls import KeyPair, client_context, is_dataplane_client, load_pair, server_context

NOW = 1_790_000_000
SECRET = b"0123456789abcdef0123456789abcdef"
DATAPLANE = new_dataplane_id(NOW, lambda count: bytes(range(count)))


def identity(secret: bytes = SECRET, dataplane_id: str = DATAPLANE) -> DataplaneIdentity:
    return DataplaneIdentity(secret, dataplane_id)


def test_an_id_tells_its_time_and_sorts_by_it():
    assert created_at(DATAPLANE) == NOW
    assert len(DATAPLANE) <= 63
    ids = [new_dataplane_id(moment) for moment in range(NOW, NOW + 5000, 97)]
    assert ids == sorted(ids)
    assert new_dataplane_id(NOW) != new_dataplane_id(NOW)


@pytest.mark.parametrize(
    "bad", ["", "dp-", DATAPLANE + "\n", DATAPLANE.upper(), "dp-01lg1rli-pn7ntln7dh6r2s/c", "x" * 500]
)
def test_what_is_not_an_id_is_refused(bad):
    with pytest.raises(UsageError):
        created_at(bad)
    with pytest.raises(UsageError):
        identity(dataplane_id=bad)


def test_the_same_secret_and_id_give_the_same_ca():
    assert identity().ca_pem == identity().ca_pem
    assert identity().ca_fingerprint() == identity().ca_fingerprint()
    # Pinned: a dataplane started by one version must be reachable by the next.
    assert identity().ca_fingerprint() == "9a1a54470ac54ebc8cbb2ec87468a51213e68ff08dd4a15b62e9465dfac1ddb8"
    assert identity().wire_secret().hex() == "0b1a30bc8a0d8c1f383260aeb2375ebf30aa4358207ca18e1f591d37da1e2fa5"


def test_another_secret_or_id_gives_another_ca():
    other_id = new_dataplane_id(NOW, bytes)
    all_three = [identity(), identity(secret=SECRET[::-1]), identity(dataplane_id=other_id)]
    assert len({one.ca_fingerprint() for one in all_three}) == 3
    assert len({one.wire_secret() for one in all_three}) == 3


def test_a_short_secret_is_refused():
    with pytest.raises(UsageError, match="at least 32"):
        identity(secret=b"hunter2")


@pytest.mark.parametrize("bad", ["", "Gateway", "a.b", "-a", "a-", "a" * 64, "a\n"])
def test_a_gateway_id_is_a_dns_label(bad):
    with pytest.raises(UsageError):
        identity().gateway_certificate(bad)


def test_certificates_say_what_they_are_for():
    one = identity()
    client = x509.load_pem_x509_certificate(one.client_certificate(NOW).certificate_pem.encode())
    gateway = x509.load_pem_x509_certificate(one.gateway_certificate("gw-0", NOW).certificate_pem.encode())
    assert client.not_valid_after_utc.timestamp() == NOW + CLIENT_LIFETIME_SECONDS
    assert gateway.not_valid_after_utc.timestamp() > NOW + 300 * 24 * 3600
    names = gateway.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert (
        names.get_values_for_type(x509.DNSName) == [f"gw-0.{DATAPLANE}.skyplane.internal"] == [one.server_name("gw-0")]
    )
    assert client.public_key() != gateway.public_key()


def test_nothing_shows_a_key():
    one = identity()
    shown = repr(one) + str(one) + repr(one.client_certificate()) + str(one.client_certificate())
    assert "PRIVATE" not in shown
    assert SECRET.decode() not in shown
    assert one.wire_secret().hex() not in shown
    with pytest.raises(TypeError):
        pickle.dumps(one)


def test_only_the_client_of_this_dataplane_is_the_client():
    def peer(*names):
        return {"subject": tuple((name,) for name in names)}

    organization = ("organizationName", DATAPLANE)
    assert is_dataplane_client(peer(organization, ("commonName", "client")), DATAPLANE)
    for other in (
        None,
        {},
        peer(organization),
        peer(("commonName", "client")),
        peer(organization, ("commonName", "gw-0")),
        peer(("organizationName", "dp-other"), ("commonName", "client")),
        peer(organization, ("commonName", "client"), ("commonName", "gw-0")),
    ):
        assert not is_dataplane_client(other, DATAPLANE)


# --- TLS, over a socket pair ----------------------------------------------------------------------------------------


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> str:
    """Exchange a byte each way; returns the protocol version."""
    ours, theirs = socket.socketpair()
    failures = []

    def serve():
        try:
            with server.wrap_socket(theirs, server_side=True) as tls:
                tls.sendall(tls.recv(1))
        except (ssl.SSLError, OSError) as error:
            failures.append(error)
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.wrap_socket(ours, server_hostname=name) as tls:
            tls.sendall(b"x")
            if tls.recv(1) != b"x":
                raise ConnectionResetError
            return tls.version() or ""
    finally:
        ours.close()
        thread.join()


def contexts(one: DataplaneIdentity, other: DataplaneIdentity | None = None):
    other = other or one
    return (
        server_context(one.ca_pem, one.gateway_certificate("gw-0")),
        client_context(one.ca_pem, other.client_certificate()),
    )


def fresh() -> DataplaneIdentity:
    return DataplaneIdentity(SECRET, new_dataplane_id())


def test_client_and_gateway_talk_tls_1_3():
    one = fresh()
    assert handshake(*contexts(one), one.server_name("gw-0")) == "TLSv1.3"


def test_a_renewed_certificate_replaces_the_one_before():
    one = fresh()
    server, client = contexts(one)
    load_pair(client, one.client_certificate())
    assert handshake(server, client, one.server_name("gw-0")) == "TLSv1.3"


def test_another_gateways_name_is_refused():
    one = fresh()
    with pytest.raises(ssl.SSLCertVerificationError, match=r"[Hh]ostname mismatch"):
        handshake(*contexts(one), one.server_name("gw-1"))


def test_a_foreign_client_is_refused():
    one = fresh()
    foreign = DataplaneIdentity(SECRET[::-1], one.dataplane_id)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        handshake(*contexts(one, foreign), one.server_name("gw-0"))


def test_a_foreign_gateway_is_refused():
    one = fresh()
    foreign = DataplaneIdentity(SECRET[::-1], one.dataplane_id)
    server = server_context(one.ca_pem, foreign.gateway_certificate("gw-0"))
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, client_context(one.ca_pem, one.client_certificate()), one.server_name("gw-0"))


def test_a_gateway_cannot_pass_for_a_client():
    one = fresh()
    server, _client = contexts(one)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        handshake(server, client_context(one.ca_pem, one.gateway_certificate("gw-1")), one.server_name("gw-0"))


def test_an_expired_client_is_refused():
    one = fresh()
    server, _client = contexts(one)
    expired = one.client_certificate(now=created_at(one.dataplane_id) - CLIENT_LIFETIME_SECONDS - 1)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        handshake(server, client_context(one.ca_pem, expired), one.server_name("gw-0"))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tls_1_2_is_refused():
    one = fresh()
    server, client = contexts(one)
    client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        handshake(server, client, one.server_name("gw-0"))


def test_keys_are_loaded_without_memfd(monkeypatch, tmp_path):
    monkeypatch.delattr("os.memfd_create")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    one = fresh()
    assert handshake(*contexts(one), one.server_name("gw-0")) == "TLSv1.3"
    assert list(tmp_path.iterdir()) == []


def test_a_key_that_is_none_is_an_error_and_leaves_no_file(monkeypatch, tmp_path):
    monkeypatch.delattr("os.memfd_create")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(ssl.SSLError):
        server_context(fresh().ca_pem, KeyPair("no", "key"))
    assert list(tmp_path.iterdir()) == []
