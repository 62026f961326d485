"""The program with options of stores and attributes, between servers that insist on them."""

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
SIZES = {"small": 10, "striped": 11 << 20}


@pytest.fixture
def server() -> Iterator[ObjectServer]:
    with ObjectServer(
        "s3",
        buckets=["paid", "dst"],
        credentials={"AK": "SK"},
        requester_pays=["paid"],
        shortcomings=["composite-only"],
    ) as running:
        for key, size in SIZES.items():
            running.put("paid", f"p/{key}", os.urandom(size), metadata={"owner": "me", "x-old": "1"})
        yield running


def skyplane(server: ObjectServer, home: Path, *argv: str) -> tuple[int, str]:
    """Exit code and standard error; S3's endpoint comes from the environment, R2's must not."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "XDG_STATE_HOME": str(home / "state"),
        "XDG_CONFIG_HOME": str(home / "config"),
        "AWS_ACCESS_KEY_ID": "AK",
        "AWS_SECRET_ACCESS_KEY": "SK",
        "AWS_ENDPOINT_URL_S3": server.endpoint_url,
    }
    done = subprocess.run(
        [sys.executable, "-m", "skyplane_core.cli", *argv],
        cwd=home, env=environment, capture_output=True, text=True, check=False, timeout=90,
    )  # fmt: skip
    return done.returncode, done.stderr


def test_a_tree_goes_from_a_bucket_that_is_paid_for_to_r2(server: ObjectServer, tmp_path: Path) -> None:
    tree = ("cp", "-r", "--part-size", "5MiB", "--receipt", "receipt", "s3://paid/p/", "r2://dst/q/")
    to_r2 = ("--endpoint-url-destination", server.endpoint_url)
    code, said = skyplane(server, tmp_path, *tree, *to_r2)
    assert code != 0
    assert "access denied" in said
    code, said = skyplane(server, tmp_path, *tree, "--requester-pays-source")
    assert code == 2
    assert "which Cloudflare account" in said
    asked = (
        "--requester-pays-source",
        "--metadata",
        "run=7",
        "--metadata-rename",
        "owner=made-by",
        "--metadata-drop",
        "x-*",
    )
    code, said = skyplane(server, tmp_path, *tree, *to_r2, *asked, "--storage-class", "STANDARD_IA")
    assert code == 0, said
    for key in SIZES:
        assert server.get("dst", f"q/{key}") == server.get("paid", f"p/{key}")
        described = server.head("dst", f"q/{key}")
        assert described["attributes"]["x-amz-storage-class"] == "STANDARD_IA"
        assert {"made-by": "me", "run": "7"}.items() <= described["metadata"].items()
        assert "x-old" not in described["metadata"]
    lines = [json.loads(line) for line in (tmp_path / "receipt").read_text().splitlines()][1:]
    assert {line["key"]: line["attestation"] for line in lines} == {"p/small": "whole", "p/striped": "per-part"}
