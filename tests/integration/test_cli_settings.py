"""The program, told what cannot work: an exit code, one line that says what and why, and nothing done anywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from skyplane_core.testing.objectserver import ObjectServer

ROOT = Path(__file__).resolve().parents[2]
KEY, SECRET = "AKTEST", "canary-secret"
HOSTS = {
    "unknown.json": {"hosts": [{"address": "192.0.2.1", "colour": "red"}]},
    "hidden.json": {"hosts": [{"address": "192.0.2.1", "dials_out": True}, {"address": "192.0.2.2"}]},
    "both-hidden.json": {
        "hosts": [
            {"address": "192.0.2.1", "role": "reader"},
            {"address": "192.0.2.2", "role": "reader", "dials_out": True},
            {"address": "192.0.2.3", "role": "writer", "dials_out": True},
        ]
    },
    "no-writer.json": {"hosts": [{"address": "192.0.2.1", "role": "reader"}]},
    "keyless.json": {"hosts": [{"address": "192.0.2.1", "host_key": "SHA256:short"}]},
}
WRONG: list[tuple[list[str], str]] = [
    (["--gateways", "0"], "'--gateways': 0 is not in the range 1<=x<=3"),
    (["--gateways", "-1"], "'--gateways': -1 is not in the range"),
    (["--gateways", "4"], "'--gateways': 4 is not in the range"),
    (["--gateways", "2", "--via", "both"], "there is no relay"),
    (["--layout", "two"], "'two' is not a layout"),
    (["--layout", "0:1:1"], "'0:1:1' has no reader"),
    (["--layout", "30:30:30"], "more than 32 gateways"),
    (["--layout", "1:1", "--host", "192.0.2.1"], "--layout is for processes of this machine"),
    (["--concurrency", "0"], "'--concurrency': 0 is not in the range 1<=x<=1024"),
    (["--concurrency", "-8"], "'--concurrency': -8 is not in the range"),
    (["--concurrency", "many"], "'--concurrency'"),
    (["--part-size", "0"], "'--part-size': '0' is not a positive size"),
    (["--part-size", "-5MiB"], "'--part-size': '-5MiB' is not a size"),
    (["--part-size", "1MiB"], "part_size is 1048576 bytes [s3://dst]: the destination takes parts of 5242880 to"),
    (["--part-size", "257MiB"], "part_size is 269484032 bytes, and with this buffer pool it can be at most 268435456"),
    (["--part-size", "6GiB"], "part_size is 6442450944 bytes, and with this buffer pool it can be at most 268435456"),
    (["--host", "me@"], "not a host"),
    (["--host", "192.0.2.1", "--host", "192.0.2.1"], "a host is given twice [192.0.2.1:22]"),
    (["--host", "192.0.2.1", "--gateways", "2"], "contradict each other"),
    (["--hosts", "nowhere.json"], "the hosts file cannot be read [nowhere.json]"),
    (["--hosts", "unknown.json"], "colour"),
    (["--hosts", "hidden.json"], "the head must be one that can be dialled [gateway-0]"),
    (["--hosts", "both-hidden.json"], "no route leads over gateway-1"),
    (["--hosts", "no-writer.json"], "none of the hosts may be a writer [192.0.2.1:22]"),
    (["--hosts", "keyless.json"], "host_key of host '192.0.2.1' is not usable"),
]


@pytest.fixture
def store() -> Iterator[ObjectServer]:
    with ObjectServer("s3", buckets=["src", "dst"], credentials={KEY: SECRET}) as server:
        server.put("src", "data/a", b"x")
        yield server


@pytest.mark.parametrize(("options", "told"), WRONG, ids=[" ".join(case[0]) for case in WRONG])
def test_it_is_refused_in_one_line(store: ObjectServer, tmp_path: Path, options: list[str], told: str) -> None:
    for name, content in HOSTS.items():
        (tmp_path / name).write_text(json.dumps(content))
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_S3": store.endpoint_url,
    }
    done = subprocess.run(
        [sys.executable, "-m", "skyplane_core.cli", "cp", "-r", "s3://src/data/", "s3://dst/", "--no-json", *options],
        env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert told in done.stderr
    # A gateway has a log below state, a dataplane a secret below config.
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(HOSTS)
    assert (store.list("dst"), store.uploads("dst"), store.list("src")) == ([], [], ["data/a"])
    assert not [name for name in store.requests if name.startswith(("Put", "Create", "Upload", "Copy"))]
