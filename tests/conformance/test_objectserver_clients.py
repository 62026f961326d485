"""The object server vouched for by obstore (Rust) and rclone (Go)."""

# ruff: noqa: S310 - the SDKs are what is used here, and every URL is our own.
from __future__ import annotations

import datetime
import json
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import obstore
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from obstore.store import GCSStore, S3Store

from skyplane_core.testing.objectserver import ObjectServer

MIB = 1 << 20
KEYS = ["plain", "a b/ü", "100%", "a+b", "x=1&y"]


def s3_store(server, secret="SK"):
    return S3Store(
        "b",
        endpoint=server.endpoint_url,
        access_key_id="AK",
        secret_access_key=secret,
        region="us-east-1",
        client_options={"allow_http": True},
        retry_config={"max_retries": 0},
    )


def gcs_store(server, key=None):
    pem = "unused"
    if key is not None:
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        ).decode()
    account = {
        "gcs_base_url": server.endpoint_url,
        "disable_oauth": key is None,
        "client_email": "robot@p.iam",
        "private_key": pem,
        "private_key_id": "1",
    }
    return GCSStore(
        "b",
        service_account_key=json.dumps(account),
        client_options={"allow_http": True},
        retry_config={"max_retries": 0},
    )


@pytest.fixture(params=["s3", "gcs"])
def both(request):
    credentials = {"AK": "SK"} if request.param == "s3" else None
    with ObjectServer(request.param, buckets=["b"], credentials=credentials) as server:
        yield server, (s3_store if request.param == "s3" else gcs_store)(server)


def test_obstore_objects(both):
    server, store = both
    for key in KEYS:
        store.put(key, key.encode(), attributes={"Content-Type": "text/x", "m": "1"})
        assert server.get("b", key) == key.encode()
        got = store.get(key)
        assert bytes(got.bytes()) == key.encode()
        assert got.attributes["Content-Type"] == "text/x"
        assert bytes(store.get_range(key, start=1, end=3)) == key.encode()[1:3]
    assert [entry["path"] for page in store.list() for entry in page] == sorted(KEYS, key=str.encode)
    assert [entry["path"] for entry in store.list_with_delimiter()["objects"]] == [
        key for key in sorted(KEYS) if "/" not in key
    ]
    assert [entry["path"] for page in store.list(offset="a b/ü") for entry in page] == [
        k for k in sorted(KEYS) if k > "a b/ü"
    ]
    store.copy("plain", "copy")
    assert server.get("b", "copy") == b"plain"
    store.delete([*KEYS, "copy"])
    assert server.list("b") == []
    with pytest.raises(FileNotFoundError):
        store.head("plain")


def test_obstore_multipart(both):
    server, store = both
    data = os.urandom(11 * MIB + 1)
    store.put("big", data, use_multipart=True, chunk_size=5 * MIB, max_concurrency=3)
    assert server.get("b", "big") == data
    assert server.head("b", "big")["part_sizes"] == [5 * MIB, 5 * MIB, MIB + 1]
    assert bytes(store.get("big").bytes()) == data
    assert [bytes(piece) for piece in store.get_ranges("big", starts=[0, 7 * MIB], ends=[9, 7 * MIB + 9])] == [
        data[:9],
        data[7 * MIB : 7 * MIB + 9],
    ]
    assert server.uploads("b") == []


def test_obstore_conditional_put(both):
    server, store = both
    made = store.put("k", b"1", mode="create")
    with pytest.raises(obstore.exceptions.AlreadyExistsError):
        store.put("k", b"2", mode="create")
    unchanged = {name: value for name, value in made.items() if value is not None}
    store.put("k", b"3", mode=unchanged)
    with pytest.raises(obstore.exceptions.PreconditionError):
        store.put("k", b"4", mode=unchanged)
    assert server.get("b", "k") == b"3"


def fetch(url, method="GET", data=None, headers=None):
    request = urllib.request.Request(url, method=method, data=data, headers=headers or {})
    with urllib.request.urlopen(request) as answer:
        return answer.read()


@pytest.mark.parametrize("kind", ["s3", "gcs"])
def test_urls_signed_by_obstore(kind):
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    accepted = {
        "s3": {"credentials": {"AK": "SK"}},
        "gcs": {"public_keys": {"robot@p.iam": public.decode()}},
    }
    # For GCS, obstore signs for that host whatever the endpoint is.
    headers = {"gcs": {"Host": "storage.googleapis.com"}, "s3": {}}[kind]
    with ObjectServer(kind, buckets=["b"], **accepted[kind]) as server:
        store = s3_store(server) if kind == "s3" else gcs_store(server, key)
        server.put("b", "a b/ü", b"hello")
        url = obstore.sign(store, "GET", "a b/ü", datetime.timedelta(minutes=1))
        assert fetch(url, headers=headers) == b"hello"
        fetch(obstore.sign(store, "PUT", "new", datetime.timedelta(minutes=1)), "PUT", b"by url", headers)
        assert server.get("b", "new") == b"by url"
        for bad in (url.replace("a%20b", "a%20c"), url[:-2] + ("00" if url[-2:] != "00" else "11")):
            with pytest.raises(urllib.error.HTTPError) as error:
                fetch(bad, headers=headers)
            assert error.value.code == 403
            error.value.close()


def test_obstore_with_a_wrong_secret():
    with ObjectServer("s3", buckets=["b"], credentials={"AK": "SK"}) as server:
        with pytest.raises(obstore.exceptions.PermissionDeniedError):
            s3_store(server, "wrong").put("k", b"x")
        assert server.list("b") == []


def rclone(*arguments, **environment):
    program = shutil.which("rclone", path=str(Path(sys.executable).parent))
    done = subprocess.run(
        [program, "--config", "/dev/null", "--retries", "1", "--low-level-retries", "1", *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def settings(server):
    if server.kind == "s3":
        return {
            "RCLONE_CONFIG_R_TYPE": "s3",
            "RCLONE_CONFIG_R_PROVIDER": "Other",
            "RCLONE_CONFIG_R_ENDPOINT": server.endpoint_url,
            "RCLONE_CONFIG_R_FORCE_PATH_STYLE": "true",
            "RCLONE_CONFIG_R_ACCESS_KEY_ID": "AK",
            "RCLONE_CONFIG_R_SECRET_ACCESS_KEY": "SK",
            "RCLONE_CONFIG_R_REGION": "us-east-1",
            "RCLONE_CONFIG_R_UPLOAD_CUTOFF": "5M",
            "RCLONE_CONFIG_R_CHUNK_SIZE": "5M",
        }
    return {
        "RCLONE_CONFIG_R_TYPE": "google cloud storage",
        "RCLONE_CONFIG_R_ANONYMOUS": "true",
        "RCLONE_CONFIG_R_ENDPOINT": f"{server.endpoint_url}/storage/v1/",
        "RCLONE_CONFIG_R_BUCKET_POLICY_ONLY": "true",
    }


@pytest.mark.parametrize("kind", ["s3", "gcs"])
def test_rclone_copies_checks_and_deletes(kind, tmp_path):
    source, back = tmp_path / "source", tmp_path / "back"
    files = {"plain": b"hello", "a b/ü%+": b"x" * 1000, "empty": b"", "big": os.urandom(20 * MIB + 1)}
    for name, data in files.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(data)
    with ObjectServer(kind, buckets=["b"], credentials={"AK": "SK"} if kind == "s3" else None, md5=True) as server:
        environment = settings(server)
        rclone("copy", source, "R:b/in", **environment)
        assert server.list("b") == sorted(f"in/{name}" for name in files)
        for name, data in files.items():
            assert server.get("b", f"in/{name}") == data
        rclone("check", source, "R:b/in", "--download", **environment)
        assert set(rclone("lsf", "-R", "--files-only", "R:b/in", **environment).splitlines()) == set(files)
        rclone("copy", "R:b/in", back, **environment)
        assert (back / "big").read_bytes() == files["big"]
        rclone("purge", "R:b/in", **environment)
        assert server.list("b") == []
