"""After a sync, tools that nobody here wrote find nothing left to do; before it, they do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from skyplane_core.client import ClientConfig, Location, SkyplaneClient
from skyplane_core.model import Credentials, StoreConfig
from skyplane_core.testing.objectserver import ObjectServer
from tests.integration.engine.sync_ends import ANYTHING, Bench, End

ROOT = Path(__file__).parents[3]
PEERS = ROOT / ".venv-peers" / "bin"
KEY, SECRET = "AKTEST", "peers-secret"
MIB = 1024 * 1024
KEYS = ["a", "a.b", "a-b/c", "d/b/c.txt", "empty", "with space", "ü/日本", "plus+and%20percent", "large"]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    client = SkyplaneClient(ClientConfig(pool_bytes=64 * MIB, control_secret=b"a control secret for tests, 32 bytes +"))
    with (
        # They tell objects apart by MD5 sums.
        ObjectServer("s3", buckets=["b"], credentials={KEY: SECRET}, md5=True) as s3,
        ObjectServer("gcs", buckets=["b"], md5=True) as gcs,
        client.dataplane().auto_deprovision() as dataplane,
    ):
        dataplane.provision()
        yield Bench(client, dataplane, {"s3": s3, "gcs": gcs}, tmp_path_factory.mktemp("ends"))


def signed(end: End) -> End:
    store = end.location.store
    if store.kind != "s3":
        return end
    credentials = Credentials(access_key=KEY, secret_key=SECRET)
    config = StoreConfig("s3", "b", store.endpoint_url, "us-east-1", path_style=True, credentials=credentials)
    return End(Location(config, end.location.key), end.server)


def filled(bench: Bench, pair: str) -> tuple[End, End]:
    """Two ends that differ in everything that they can differ in."""
    source, destination = map(signed, bench.ends(pair))
    for key in KEYS:
        source.put(key, os.urandom(6 * MIB) if key == "large" else key.encode() * (key != "empty"))
    destination.put("a", b"changed")
    destination.put("gone/x")
    return source, destination


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "NO_PROXY", "no_proxy", "TMPDIR") if name in os.environ}
    environment = kept | {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
    }
    return subprocess.run(
        command, env=environment, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip


def rclone_remote(end: End) -> str:
    store = end.location.store
    if store.kind == "local":
        return store.bucket
    if store.kind == "s3":
        options = (
            f"provider=Other,access_key_id={KEY},secret_access_key={SECRET},region=us-east-1,force_path_style=true,"
            "no_check_bucket=true"
        )
        return f':s3,{options},endpoint="{store.endpoint_url}":b/{end.location.key}'
    options = f'anonymous=true,no_check_bucket=true,bucket_policy_only=true,endpoint="{store.endpoint_url}/storage/v1/"'
    return f":gcs,{options}:b/{end.location.key}"


@pytest.mark.parametrize("pair", ["s3-gcs", "gcs-s3", "s3-local", "local-gcs", "local-s3"])
def test_rclone_finds_no_difference(bench: Bench, pair: str) -> None:
    source, destination = filled(bench, pair)
    program = str(Path(sys.executable).with_name("rclone"))
    ends = [rclone_remote(source), rclone_remote(destination)]
    options = ["--config", os.devnull, "--exclude", ".skyplane/**"]
    checks = (["check"], ["check", "--download"], ["sync", "--checksum", "--dry-run"])
    before = [run(program, *command, *ends, *options, cwd=bench.directory) for command in checks]
    bench.told(source, destination, delete=True, max_delete=ANYTHING)
    after = [run(program, *command, *ends, *options, cwd=bench.directory) for command in checks]
    assert [done.returncode for done in before] == [1, 1, 0]
    assert [done.returncode for done in after] == [0, 0, 0], after
    assert "0 differences found" in after[1].stderr
    assert ("Skipped" in before[2].stderr, "Skipped" in after[2].stderr) == (True, False)


def peer(name: str) -> str:
    assert (PEERS / name).exists(), f"{name} is not installed (scripts/setup --peers)"
    return str(PEERS / name)


@pytest.mark.parametrize("pair", ["s3-local", "local-s3"])
def test_aws_cli_finds_nothing_to_sync(bench: Bench, pair: str) -> None:
    program = peer("aws")
    source, destination = filled(bench, pair)
    options = ["--dryrun", "--delete", "--exclude", ".skyplane/*", "--endpoint-url", bench.servers["s3"].endpoint_url]
    ends = [
        f"{end.location.store.bucket}/" if end.kind == "local" else f"s3://b/{end.location.key}"
        for end in (source, destination)
    ]
    # It takes a file that is newer than its object for one that somebody has changed.
    options += ["--size-only"] if destination.kind == "local" else []
    before = run(program, "s3", "sync", *ends, *options, cwd=bench.directory)
    bench.told(source, destination, delete=True, max_delete=ANYTHING)
    after = run(program, "s3", "sync", *ends, *options, cwd=bench.directory)
    assert "(dryrun)" in before.stdout
    assert (after.returncode, after.stdout, after.stderr) == (0, "", "")


@pytest.mark.parametrize("pair", ["s3-local", "local-s3"])
def test_s5cmd_finds_nothing_to_sync(bench: Bench, pair: str) -> None:
    program = peer("s5cmd")
    source, destination = filled(bench, pair)
    ends = [
        f"{end.location.store.bucket}/" if end.kind == "local" else f"s3://b/{end.location.key}"
        for end in (source, destination)
    ]
    ends[0] += "*" if source.kind == "s3" else ""
    command = [program, "--endpoint-url", bench.servers["s3"].endpoint_url, "--dry-run", "sync", *ends]
    before = run(*command, cwd=bench.directory)
    bench.told(source, destination, delete=True, max_delete=ANYTHING)
    after = run(*command, cwd=bench.directory)
    assert "cp " in before.stdout
    assert (after.returncode, after.stdout, after.stderr) == (0, "", "")
