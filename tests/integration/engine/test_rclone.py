"""Times and permissions that rclone recorded are understood, and rclone understands ours."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from skyplane_core.client import Location, SkyplaneClient
from skyplane_core.model import AttributeRules, Credentials, StoreConfig
from skyplane_core.spec import TransferOptions
from skyplane_core.testing.objectserver import ObjectServer

MIB = 1024 * 1024
MTIME_NS = 1_484_931_135_123_456_789
MODE = 0o640
OPTIONS = TransferOptions(
    part_size=5 * MIB, multipart_threshold=6 * MIB, attributes=AttributeRules(keep_mtime=True, keep_mode=True)
)


@pytest.fixture(params=["s3", "gcs"])
def server(request: pytest.FixtureRequest) -> Iterator[ObjectServer]:
    credentials = {"AK": "SK"} if request.param == "s3" else None
    with ObjectServer(request.param, buckets=["b"], credentials=credentials, md5=True) as running:
        yield running


def bucket(server: ObjectServer) -> Location:
    credentials = Credentials("AK", "SK") if server.kind == "s3" else Credentials()
    return Location(StoreConfig(server.kind, "b", server.endpoint_url, credentials=credentials), "p/")


def directory(path: Path) -> Location:
    path.mkdir(exist_ok=True)
    return Location(StoreConfig("local", str(path)), "")


def files(path: Path) -> None:
    path.mkdir()
    for name, size in {"small": 10, "striped": 11 * MIB}.items():
        (path / name).write_bytes(os.urandom(size))
        (path / name).chmod(MODE)
        os.utime(path / name, ns=(MTIME_NS, MTIME_NS))


def rclone(server: ObjectServer, *arguments: str | Path) -> str:
    program = shutil.which("rclone", path=str(Path(sys.executable).parent))
    assert program is not None
    settings = {
        "s3": {
            "TYPE": "s3",
            "PROVIDER": "Other",
            "ENDPOINT": server.endpoint_url,
            "FORCE_PATH_STYLE": "true",
            "ACCESS_KEY_ID": "AK",
            "SECRET_ACCESS_KEY": "SK",
            "REGION": "us-east-1",
            "UPLOAD_CUTOFF": "5M",
            "CHUNK_SIZE": "5M",
        },
        "gcs": {
            "TYPE": "google cloud storage",
            "ANONYMOUS": "true",
            "ENDPOINT": f"{server.endpoint_url}/storage/v1/",
            "BUCKET_POLICY_ONLY": "true",
        },
    }[server.kind]
    done = subprocess.run(
        [program, "--config", os.devnull, "--retries", "1", *map(str, arguments)],
        env={**os.environ, **{f"RCLONE_CONFIG_R_{name}": value for name, value in settings.items()}},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def seen(path: Path) -> set[tuple[str, int, int]]:
    found = (path / name for name in ("small", "striped"))
    return {(file.name, file.stat().st_mtime_ns, file.stat().st_mode & 0o777) for file in found}


def test_what_rclone_wrote_comes_back_through_us(server: ObjectServer, tmp_path: Path, client: SkyplaneClient) -> None:
    files(tmp_path / "here")
    rclone(server, "copy", "--metadata", tmp_path / "here", "R:b/p")
    client.copy(bucket(server), directory(tmp_path / "back"), recursive=True, options=OPTIONS)
    times = {(name, mtime_ns) for name, mtime_ns, _ in seen(tmp_path / "back")}
    assert times == {("small", MTIME_NS), ("striped", MTIME_NS)}
    if server.kind == "s3":
        # rclone keeps permissions in the metadata of S3, and of GCS only times.
        assert {mode for _, _, mode in seen(tmp_path / "back")} == {MODE}


def test_what_we_wrote_comes_back_through_rclone(server: ObjectServer, tmp_path: Path, client: SkyplaneClient) -> None:
    files(tmp_path / "here")
    client.copy(directory(tmp_path / "here"), bucket(server), recursive=True, options=OPTIONS)
    listed = json.loads(rclone(server, "lsjson", "--files-only", "R:b/p"))
    assert {item["ModTime"] for item in listed} == {"2017-01-20T16:52:15.123456789Z"}
    rclone(server, "copy", "--metadata", "--exclude", ".skyplane/**", "R:b/p", tmp_path / "back")
    expected = {("small", MTIME_NS, MODE), ("striped", MTIME_NS, MODE)}
    if server.kind == "gcs":
        expected = {(name, mtime, (tmp_path / "back" / name).stat().st_mode & 0o777) for name, mtime, _ in expected}
    assert seen(tmp_path / "back") == expected
