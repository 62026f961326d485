"""The object server goes wrong exactly as it is told to, and leaves nothing behind."""

from __future__ import annotations

import base64
import contextlib
import datetime
import hashlib
import hmac
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import requests
from awscrt import checksums as crt

from skyplane_core.testing.objectserver import Fault, Faults, ObjectServer

MIB = 1 << 20


@contextlib.contextmanager
def connected(server: ObjectServer):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        yield connection
    finally:
        connection.close()


def call(server, method, path, body=b"", headers=None):
    with connected(server) as connection:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers


@pytest.fixture
def server():
    with ObjectServer("s3", buckets=["b"]) as running:
        running.put("b", "k", b"0123456789")
        yield running


@pytest.mark.parametrize("size", [10, 300_000])
def test_what_was_flipped_at_rest_is_attested_as_it_arrived(server, size):
    server.set_faults(Faults(Fault("PutObject", "flip-stored", at=3, times=1)))
    body = os.urandom(size)
    assert call(server, "PUT", "/b/rots", body)[0] == 200
    status, there, headers = call(server, "GET", "/b/rots", headers={"x-amz-checksum-mode": "ENABLED"})
    assert status == 200
    assert there == body[:3] + bytes([body[3] ^ 1]) + body[4:]
    assert headers["x-amz-checksum-crc64nvme"] == base64.b64encode(crt.crc64nvme(body).to_bytes(8, "big")).decode()


def test_statuses_and_which_requests_they_strike(server):
    server.set_faults(Faults(Fault("GetObject", "status", key="k*", nth=(2, 3), retry_after=7)))
    answers = [call(server, "GET", "/b/k") for _ in range(4)]
    assert [status for status, _, _ in answers] == [200, 503, 503, 200]
    assert b"<Code>SlowDown</Code>" in answers[1][1]
    assert answers[1][2]["Retry-After"] == "7"
    assert server.statistics["faults_fired"] == [2]
    assert server.requests["GetObject"] == 4
    server.set_faults(Faults(Fault("PutObject", "status", status=200, code="InternalError", times=1)))
    assert b"InternalError" in call(server, "PUT", "/b/new", b"x")[1]
    assert server.list("b") == ["k"]


def test_a_seed_makes_chance_repeatable(server):
    outcomes = []
    for seed in (1, 1, 2):
        server.set_faults(Faults(Fault("*", "status", status=500, code="InternalError", probability=0.5), seed=seed))
        outcomes.append([call(server, "GET", "/b/k")[0] for _ in range(20)])
    assert outcomes[0] == outcomes[1] != outcomes[2]
    assert {200, 500} == set(outcomes[0])


def test_resets(server):
    for action, stored in [("reset-before", False), ("reset-during", False), ("reset-after", True)]:
        server.set_faults(Faults(Fault("PutObject", action, at=MIB)))
        with pytest.raises((ConnectionResetError, BrokenPipeError, http.client.RemoteDisconnected)):
            call(server, "PUT", f"/b/{action}", b"x" * 3 * MIB)
        deadline = time.monotonic() + 5
        while stored and f"{action}" not in server.list("b") and time.monotonic() < deadline:
            time.sleep(0.01)
        assert (action in server.list("b")) is stored
    server.put("b", "big", b"x" * 3 * MIB)
    server.set_faults(Faults(Fault("GetObject", "reset-during", at=MIB)))
    with pytest.raises((ConnectionResetError, http.client.IncompleteRead)):
        call(server, "GET", "/b/big")


def test_truncated_and_changed_answers(server):
    server.set_faults(Faults(Fault("GetObject", "truncate", at=4)))
    with pytest.raises(http.client.IncompleteRead) as error:
        call(server, "GET", "/b/k")
    assert error.value.partial == b"0123"
    server.set_faults(Faults(Fault("GetObject", "flip", at=4)))
    assert call(server, "GET", "/b/k")[1] == b"0123556789"
    assert server.get("b", "k") == b"0123456789"


def test_stall_and_slow(server):
    server.put("b", "big", b"x" * 200_000)
    for fault in (Fault("GetObject", "stall", seconds=0.3), Fault("GetObject", "slow", rate=500_000)):
        server.set_faults(Faults(fault))
        begun = time.monotonic()
        assert len(call(server, "GET", "/b/big")[1]) == 200_000
        assert 0.28 < time.monotonic() - begun < 1.5


@pytest.mark.parametrize("in_process", [True, False])
def test_held_requests_wait_where_they_are_told_to(in_process):
    with ObjectServer("s3", buckets=["b"], in_process=in_process) as server:
        server.put("b", "k", b"0123456789")
        for action, operation, key, visible in (
            ("hold-before", "PutObject", "before", False),
            ("hold-during", "PutObject", "during", False),
            ("hold-after", "PutObject", "after", True),
            ("hold-during", "GetObject", "k", True),
        ):
            server.set_faults(Faults(Fault(operation, action, at=4, times=1)))
            answers = []
            request = ("PUT", f"/b/{key}", b"x" * 9) if operation == "PutObject" else ("GET", f"/b/{key}")
            thread = threading.Thread(
                target=lambda into, what: into.append(call(server, *what)), args=(answers, request)
            )
            thread.start()
            assert server.wait_held() == [(operation, key)]
            assert not answers
            assert (key in server.list("b")) is visible
            server.release()
            thread.join(10)
            assert answers[0][0] == 200
            assert len(server.get("b", key)) == (10 if key == "k" else 9)
        with pytest.raises(TimeoutError, match="0 of 1"):
            server.wait_held(seconds=0.05)


def test_a_stopping_server_does_not_keep_what_it_holds():
    with ObjectServer("s3", buckets=["b"], faults=Faults(Fault("ListObjects", "hold-before"))) as server:

        def ask():
            with pytest.raises((OSError, http.client.HTTPException)):
                call(server, "GET", "/b?list-type=2")

        thread = threading.Thread(target=ask)
        thread.start()
        server.wait_held()
    thread.join(10)
    assert not thread.is_alive()


def test_latency_and_bandwidth(server):
    server.put("b", "big", b"x" * 300_000)
    server.set_network(latency=0.1, bandwidth=1e6)
    with connected(server) as connection:
        for method, body in (("GET", b""), ("PUT", b"x" * 300_000)):
            begun = time.monotonic()
            connection.request(method, "/b/big", body)
            connection.getresponse().read()
            assert 0.38 < time.monotonic() - begun < 1.5


def test_a_stopping_server_does_not_wait_for_its_clients():
    before = set(threading.enumerate())
    server = ObjectServer("s3", buckets=["b"], faults=Faults(Fault("GetObject", "stall", seconds=60)))
    server.start()
    directory = server._config.directory
    server.put("b", "k", b"x")
    with connected(server) as idle, connected(server) as stalled:
        idle.request("HEAD", "/b/absent")
        idle.getresponse().read()
        stalled.request("GET", "/b/k")
        begun = time.monotonic()
        server.stop()
        assert time.monotonic() - begun < 2
    assert set(threading.enumerate()) <= before
    assert not Path(directory).exists()
    server.stop()
    with pytest.raises(RuntimeError, match="not running"):
        server.list("b")


def test_memory_goes_with_its_objects(server):
    arena = server._running._state.arena
    for _ in range(3):
        call(server, "PUT", "/b/k", b"x" * 1000)
    assert arena.used == 1024
    upload = call(server, "POST", "/b/m?uploads")[1].partition(b"<UploadId>")[2].partition(b"<")[0].decode()
    for number in (1, 2):
        assert call(server, "PUT", f"/b/m?partNumber={number}&uploadId={upload}", b"x")[0] == 200
    assert arena.used == 1024 + 2 * 64
    assert call(server, "DELETE", f"/b/m?uploadId={upload}")[0] == 204
    call(server, "DELETE", "/b/k")
    with connected(server) as broken:
        broken.putrequest("PUT", "/b/half")
        broken.putheader("Content-Length", "1000")
        broken.endheaders(b"x" * 10)
    deadline = time.monotonic() + 5
    while arena.used and time.monotonic() < deadline:
        time.sleep(0.01)
    assert arena.used == 0
    assert server.list("b") == []


def test_an_object_leaves_nothing_behind_however_it_was_uploaded():
    with ObjectServer("gcs", buckets=["b"]) as server:
        arena = server._running._state.arena
        base = f"{server.endpoint_url}/upload/storage/v1/b/b/o"
        begun = requests.post(f"{base}?uploadType=resumable&name=r", json={}, timeout=5)
        done = requests.put(begun.headers["Location"], data=b"x" * MIB, timeout=5)
        assert done.status_code == 200
        server.put("b", "other", b"y" * 64)
        assert arena.used == MIB + 64
        server.delete("b", "r")
        assert arena.used == 64
        # Its session still says what became of it.
        said = requests.put(begun.headers["Location"], headers={"Content-Range": f"bytes */{MIB}"}, timeout=5)
        assert said.json() == done.json()


def test_a_download_outlives_its_object(server):
    server.put("b", "big", b"x" * 8 * MIB)
    with connected(server) as reader:
        reader.request("GET", "/b/big")
        answer = reader.getresponse()
        first = answer.read(1000)
        for _ in range(2):
            call(server, "PUT", "/b/big", b"y" * 8 * MIB)
        assert first + answer.read() == b"x" * 8 * MIB


def test_a_server_in_a_process_of_its_own(tmp_path):
    with ObjectServer(
        "s3", buckets=["b"], in_process=False, root=tmp_path, faults=Faults(Fault("GetObject", "status", nth=2))
    ) as server:
        assert server.pid != os.getpid()
        pid = server.pid
        (tmp_path / "file").write_bytes(b"from a file")
        server.put("b", "a b/ü", tmp_path / "file", metadata={"m": "1"})
        assert [call(server, "GET", "/b/a%20b/%C3%BC")[0] for _ in range(3)] == [200, 503, 200]
        call(server, "PUT", "/b/put", b"x" * MIB)
        assert server.get("b", "put") == b"x" * MIB
        assert server.head("b", "put")["crc32c"] == crt.crc32c(b"x" * MIB)
        assert server.list("b") == ["a b/ü", "put"]
        assert server.requests == {"GetObject": 3, "PutObject": 1}
        with pytest.raises(KeyError):
            server.get("b", "absent")
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    with pytest.raises(ValueError, match="no kind"):
        ObjectServer("ftp", in_process=False, root=tmp_path).start()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("ending", ["terminate", "end of input"])
def test_the_command(tmp_path, ending):
    (tmp_path / "credentials.json").write_text(json.dumps({"AK": "SK"}))
    (tmp_path / "root").mkdir()
    command = [
        sys.executable,
        "-m",
        "skyplane_core.testing.objectserver",
        "--kind",
        "s3",
        "--bucket",
        "b",
        "--root",
        str(tmp_path / "root"),
        "--credentials",
        str(tmp_path / "credentials.json"),
    ]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        told = json.loads(process.stdout.readline())
        connection = http.client.HTTPConnection("127.0.0.1", told["port"], timeout=10)
        connection.request("GET", "/b/k")
        answer = connection.getresponse()
        assert (answer.status, b"AccessDenied" in answer.read()) == (403, True)
        connection.close()
        assert len(list((tmp_path / "root").iterdir())) == 1
        if ending == "terminate":
            process.send_signal(signal.SIGTERM)
        else:
            process.stdin.close()
        assert process.wait(10) == 0
        assert process.stdout.read() == ""
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
    assert list((tmp_path / "root").iterdir()) == []


def test_expired_credentials():
    with ObjectServer(
        "s3", buckets=["b"], credentials={"AK": "SK"}, faults=Faults(Fault("GetObject", "expire", nth=2))
    ) as server:
        server.put("b", "k", b"x")
        assert [signed(server, "GET", "/b/k")[0] for _ in range(3)] == [200, 400, 400]
        assert b"ExpiredToken" in signed(server, "PUT", "/b/k", [b"x"])[1]
        server.set_credentials({"AK": "SK"})
        assert signed(server, "GET", "/b/k")[1] == b"x"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def signed(server, method, path, chunks=None, *, forge="", age=0.0):
    """A request signed by hand, its body in signed chunks; ``forge`` breaks one thing."""
    now = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=age)
    stamp, scope = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d") + "/us-east-1/s3/aws4_request"
    payload = "UNSIGNED-PAYLOAD" if chunks is None else "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
    headers = {"host": f"127.0.0.1:{server.port}", "x-amz-content-sha256": payload, "x-amz-date": stamp}
    if chunks is not None:
        headers["x-amz-decoded-content-length"] = str(sum(map(len, chunks)) + (1 if forge == "length" else 0))
    names = ";".join(sorted(headers))
    canonical = "\n".join(
        [method, path, "", *(f"{name}:{headers[name]}" for name in sorted(headers)), "", names, payload]
    )
    key = b"AWS4SK"
    for step in scope.split("/"):
        key = hmac.new(key, step.encode(), "sha256").digest()

    def sign(*lines):
        return hmac.new(key, "\n".join(lines).encode(), "sha256").hexdigest()

    signature = sign("AWS4-HMAC-SHA256", stamp, scope, sha256(canonical.encode()))
    headers["authorization"] = f"AWS4-HMAC-SHA256 Credential=AK/{scope}, SignedHeaders={names}, Signature={signature}"
    if forge == "header":
        headers["x-amz-meta-evil"] = "1"
    body = b""
    for chunk in [] if chunks is None else [*chunks, b""]:
        signature = sign("AWS4-HMAC-SHA256-PAYLOAD", stamp, scope, signature, sha256(b""), sha256(chunk))
        sent = b"X" + chunk[1:] if forge == "chunk" and chunk else chunk
        body += f"{len(chunk):x};chunk-signature={signature}\r\n".encode() + sent + b"\r\n"
    return call(server, method, path, body, headers)


def test_signed_chunks_are_checked():
    with ObjectServer("s3", buckets=["b"], credentials={"AK": "SK"}) as server:
        chunks = [os.urandom(64 << 10), os.urandom(64 << 10), os.urandom(MIB), os.urandom(70_001)]
        assert signed(server, "PUT", "/b/k", chunks)[0] == 200
        assert server.get("b", "k") == b"".join(chunks)
        assert signed(server, "PUT", "/b/empty", [])[0] == 200
        for forge, expected in [
            ("chunk", b"SignatureDoesNotMatch"),
            ("length", b"IncompleteBody"),
            ("header", b"AccessDenied"),
        ]:
            assert expected in signed(server, "PUT", "/b/bad", chunks, forge=forge)[1]
        assert b"RequestTimeTooSkewed" in signed(server, "PUT", "/b/bad", chunks, age=3600)[1]
        assert server.list("b") == ["empty", "k"]


def test_unsigned_chunks_with_a_trailer(server):
    data = os.urandom(300_000)
    headers = {
        "x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "x-amz-trailer": "x-amz-checksum-crc32c",
        "content-encoding": "aws-chunked",
        "x-amz-decoded-content-length": str(len(data)),
    }
    import base64

    for value, status in [(crt.crc32c(data), 200), (crt.crc32c(data) ^ 1, 400)]:
        trailer = base64.b64encode(value.to_bytes(4, "big"))
        body = b"%x\r\n" % len(data) + data + b"\r\n0\r\nx-amz-checksum-crc32c:" + trailer + b"\r\n\r\n"
        assert call(server, "PUT", f"/b/t{status}", body, headers)[0] == status
    assert server.get("b", "t200") == data
    assert server.list("b") == ["k", "t200"]
    assert "content-encoding" not in server.head("b", "t200")["attributes"]


def test_expect_continue_and_chunked_transfer_coding(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as raw:
        raw.sendall(b"PUT /b/e HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert raw.recv(1000).startswith(b"HTTP/1.1 100 Continue")
        raw.sendall(b"abc")
        assert raw.recv(1000).startswith(b"HTTP/1.1 200")
        raw.sendall(
            b"PUT /b/c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\nGET /b/c HTTP/1.1\r\n\r\n"
        )
        time.sleep(0.2)
        answers = raw.recv(10_000)
        assert answers.count(b"HTTP/1.1 200") == 2
        assert answers.endswith(b"abc")
        raw.sendall(b"PUT /absent/e HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert b"NoSuchBucket" in raw.recv(1000)
    assert server.get("b", "e") == b"abc"


@pytest.fixture
def certificate(tmp_path):
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "c.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "k.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return str(tmp_path / "c.pem"), str(tmp_path / "k.pem")


def test_tls(certificate):
    data = os.urandom(3 * MIB)
    with ObjectServer("s3", buckets=["b"], tls=certificate) as server:
        assert server.endpoint_url.startswith("https://")
        context = ssl.create_default_context(cafile=certificate[0])
        with (
            contextlib.closing(
                http.client.HTTPSConnection("localhost", server.port, context=context, timeout=10)
            ) as connection,
            socket.create_connection(("127.0.0.1", server.port)),
        ):
            connection.request("PUT", "/b/k", data)
            assert connection.getresponse().read() == b""
            connection.request("GET", "/b/k")
            assert connection.getresponse().read() == data
            begun = time.monotonic()
            server.stop()
            assert time.monotonic() - begun < 2


@pytest.mark.parametrize("tls", [False, True])
def test_stopping_at_any_moment(certificate, tls):
    for _ in range(20):
        with ObjectServer("s3", buckets=["b"], tls=certificate if tls else None) as server:
            clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(5)]
        for client in clients:
            client.close()
