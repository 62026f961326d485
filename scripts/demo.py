"""The demo: S3 to GCS through two gateways, by an Airflow DAG, on this machine alone.

Starts an S3 and a GCS server, fills the S3 bucket, runs ``example_dags/example_s3_to_gcs.py`` in an Airflow of its own,
then reads every object back with Google's own client and compares it with what was generated. A second run must move
nothing. Everything that is written lies under ``.work/demo``. Exit code 0 means that all of it held.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import demo_data

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / ".work" / "demo"
DAG_FILE = ROOT / "example_dags" / "example_s3_to_gcs.py"
SOURCE_BUCKET = "demo-source"
DESTINATION_BUCKET = "demo-lake"
DESTINATION_PREFIX = "landing/"
STATE_SEGMENT = ".skyplane"
RECEIPT_PREFIX = ".skyplane/"  # the DAG's receipt_path
ACCESS_KEY, SECRET_KEY = "DEMOACCESSKEY", "demo-secret-key-of-a-server-on-loopback"
THREADS = 8


class DemoFailed(Exception):
    """Something that the demo promises did not hold."""


def say(text: str) -> None:
    """One line of the story, at once."""
    print(text, flush=True)


@contextmanager
def step(text: str) -> Iterator[None]:
    """Says what is done, and how long it took."""
    began = time.monotonic()
    say(f"demo: {text} ...")
    yield
    say(f"demo:   done ({time.monotonic() - began:.1f} s)")


# --- the source -----------------------------------------------------------------------------------------------------


def fill(endpoint_url: str, arguments: argparse.Namespace) -> dict[str, tuple[int, str]]:
    """Put the data set into the source bucket with boto3. Returns size and SHA-256 of each key."""
    import boto3
    from botocore.config import Config

    client = boto3.client(
        "s3",
        endpoint_url=endpoint_url,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}, max_pool_connections=THREADS),
    )

    def put(item: demo_data.Item) -> tuple[str, tuple[int, str]]:
        body = item.body()
        client.put_object(Bucket=SOURCE_BUCKET, Key=item.key, Body=body, ContentType="application/octet-stream")
        return item.key, (item.size, demo_data.sha256(body))

    with ThreadPoolExecutor(THREADS) as pool:
        manifest = dict(pool.map(put, demo_data.items(arguments.small, arguments.medium, arguments.large)))
    client.close()
    (WORK / "manifest.json").write_text(json.dumps(manifest, indent=1, ensure_ascii=False))
    return manifest


# --- Airflow --------------------------------------------------------------------------------------------------------


def airflow_environment(s3_url: str, gcs_url: str) -> dict[str, str]:
    """A clean environment: this demo's Airflow and connections, and nobody's cloud account."""
    foreign = ("AIRFLOW", "AWS_", "GOOGLE_", "CLOUDSDK_", "SKYPLANE_")
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(foreign) and not name.upper().endswith("_PROXY")
    }
    aws = {
        "conn_type": "aws",
        "login": ACCESS_KEY,
        "password": SECRET_KEY,
        "extra": {
            "region_name": "us-east-1",
            "endpoint_url": s3_url,
            "config_kwargs": {"s3": {"addressing_style": "path"}},
        },
    }
    google = {"conn_type": "google_cloud_platform", "extra": {"is_anonymous": True, "project": "demo"}}
    return clean | {
        "HOME": str(WORK / "home"),
        "NO_PROXY": "127.0.0.1,localhost",
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_GCE_CHECK": "true",
        "STORAGE_EMULATOR_HOST": gcs_url,
        "AIRFLOW_HOME": str(WORK / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAG_FILE.parent),
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO",
        "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(aws),
        "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": json.dumps(google),
        "SKYPLANE_EXAMPLE_S3_BUCKET": SOURCE_BUCKET,
        "SKYPLANE_EXAMPLE_PREFIX": "",
        "SKYPLANE_EXAMPLE_DEST_GCS": f"gs://{DESTINATION_BUCKET}/{DESTINATION_PREFIX}",
        "SKYPLANE_EXAMPLE_GATEWAYS": "2",
        "SKYPLANE_EXAMPLE_COMPRESSION": "lz4",
    }


def run_logged(command: list[str], environment: dict[str, str], log: Path, limit: float) -> None:
    """Run a command with its output in a file; show the end of that if it fails."""
    with log.open("wb") as output:
        done = subprocess.run(
            command,
            env=environment,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=limit,
            check=False,
        )
    if done.returncode != 0:
        say(log.read_text(errors="replace")[-6000:])
        raise DemoFailed(
            f"{' '.join(command[1:])} ended with code {done.returncode}; its log is {log.relative_to(ROOT)}"
        )


# --- the destination ------------------------------------------------------------------------------------------------


class Destination:
    """The destination bucket through google-cloud-storage, which shares no code with the transfer."""

    def __init__(self, endpoint_url: str) -> None:
        from google.api_core.client_options import ClientOptions
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import storage

        self._client = storage.Client(
            project="demo",
            credentials=AnonymousCredentials(),
            client_options=ClientOptions(api_endpoint=endpoint_url),
        )
        self._bucket = self._client.bucket(DESTINATION_BUCKET)

    def blobs(self) -> dict[str, Any]:
        """All objects but the receipts, by name."""
        return {blob.name: blob for blob in self._bucket.list_blobs() if STATE_SEGMENT not in blob.name.split("/")}

    def generations(self) -> dict[str, int]:
        """What changes if anything is written again."""
        return {name: blob.generation for name, blob in self.blobs().items()}

    def receipts(self) -> dict[str, Any]:
        """The totals in the receipts that the DAG keeps, by URI."""
        found = {}
        for blob in self._bucket.list_blobs(prefix=RECEIPT_PREFIX):
            first_line = blob.download_as_bytes().partition(b"\n")[0]
            found[f"gs://{DESTINATION_BUCKET}/{blob.name}"] = json.loads(first_line)["totals"]
        return found

    def save_receipt(self, uri: str) -> Path:
        """A copy of a receipt that outlives the servers."""
        copy = WORK / "receipt.jsonl"
        self._bucket.blob(uri.removeprefix(f"gs://{DESTINATION_BUCKET}/")).download_to_filename(str(copy))
        return copy

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def verify(destination: Destination, manifest: dict[str, tuple[int, str]]) -> None:
    """Every object is there with exactly its bytes, and nothing else is.

    Raises:
        DemoFailed: naming the first differences.
    """
    blobs = destination.blobs()
    expected = {DESTINATION_PREFIX + key: value for key, value in manifest.items()}
    wrong = [f"missing: {name!r}" for name in sorted(expected.keys() - blobs.keys())]
    wrong += [f"unexpected: {name!r}" for name in sorted(blobs.keys() - expected.keys())]

    def differs(name: str) -> str | None:
        size, digest = expected[name]
        body = blobs[name].download_as_bytes()
        return None if (len(body), demo_data.sha256(body)) == (size, digest) else f"other bytes: {name!r}"

    with ThreadPoolExecutor(THREADS) as pool:
        wrong += [text for text in pool.map(differs, sorted(expected.keys() & blobs.keys())) if text]
    if wrong:
        raise DemoFailed(f"{len(wrong)} objects are wrong: " + "; ".join(wrong[:10]))


def report(uri: str, progress: dict[str, Any]) -> None:
    """What the receipt says about the first run."""
    seconds = max(progress["ended_at"] - progress["started_at"], 1e-6)
    objects, moved, wire = (progress.get(name, 0) for name in ("objects_copied", "bytes_copied", "wire_bytes"))
    say(f"demo:   {objects} objects, {moved / 1e6:.1f} MB in {seconds:.1f} s")
    say(f"demo:   that is {moved / 1e6 / seconds:.0f} MB/s and {objects / seconds:.0f} objects/s")
    if wire and moved:
        saved = 100 * (1 - wire / moved)
        say(f"demo:   {wire / 1e6:.1f} MB crossed between the gateways: compression saved {saved:.0f} %")
    say(f"demo:   receipt: {uri}")


# --- the story ------------------------------------------------------------------------------------------------------


def only_new(before: dict[str, Any], after: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The one receipt that the last run wrote."""
    new = sorted(after.keys() - before.keys())
    if len(new) != 1:
        raise DemoFailed(f"expected one new receipt, found {new}")
    return new[0], after[new[0]]


def story(s3_url: str, gcs_url: str, arguments: argparse.Namespace) -> None:
    """Fill, run, verify, run again, verify that nothing moved."""
    with step(f"filling s3://{SOURCE_BUCKET} (seed {demo_data.SEED})"):
        manifest = fill(s3_url, arguments)
    total = sum(size for size, _digest in manifest.values())
    say(f"demo:   {len(manifest)} objects, {total / 1e6:.1f} MB")
    environment = airflow_environment(s3_url, gcs_url)
    with step("making an Airflow database"):
        run_logged([sys.executable, "-m", "airflow", "db", "migrate"], environment, WORK / "migrate.log", 120)
    dag_test = [sys.executable, str(ROOT / "scripts" / "demo_dag.py"), str(DAG_FILE)]
    destination = Destination(gcs_url)
    try:
        with step(f"running {DAG_FILE.name} in Airflow"):
            run_logged(dag_test, environment, WORK / "first-run.log", 300)
        receipts = destination.receipts()
        uri, progress = only_new({}, receipts)
        report(uri, progress)
        say(f"demo:   a copy of it: {destination.save_receipt(uri).relative_to(ROOT)}")
        if progress.get("objects_copied") != len(manifest):
            raise DemoFailed(f"the receipt speaks of {progress.get('objects_copied')} objects, not {len(manifest)}")
        with step("reading everything back with google-cloud-storage"):
            verify(destination, manifest)
        say(f"demo:   all {len(manifest)} objects have the SHA-256 that they were made with; there are no others")
        before = destination.generations()
        with step("running the DAG again"):
            run_logged(dag_test, environment, WORK / "second-run.log", 300)
        _uri, again = only_new(receipts, destination.receipts())
        if again.get("objects_copied", 0) or destination.generations() != before:
            raise DemoFailed(f"the second run moved {again.get('objects_copied')} objects")
        say(f"demo:   it moved nothing: {again.get('objects_skipped', 0)} objects were there already")
    finally:
        destination.close()


def main() -> int:
    """Run the demo."""
    parser = argparse.ArgumentParser(description="S3 to GCS through two gateways, by an Airflow DAG, on this machine.")
    parser.add_argument("--small", type=int, default=3000, help="objects of up to 16 KiB (default %(default)s)")
    parser.add_argument("--medium", type=int, default=120, help="objects of up to 1 MiB (default %(default)s)")
    parser.add_argument("--large", type=int, default=4, help="objects of 96 MiB (default %(default)s)")
    arguments = parser.parse_args()

    from skyplane_core.testing.objectserver import ObjectServer

    shutil.rmtree(WORK, ignore_errors=True)
    for name in ("home", "stores"):
        (WORK / name).mkdir(parents=True)
    signed = {ACCESS_KEY: SECRET_KEY}
    began = time.monotonic()
    try:
        with (
            ObjectServer(
                "s3", buckets=[SOURCE_BUCKET], in_process=False, root=WORK / "stores", credentials=signed
            ) as s3,
            ObjectServer("gcs", buckets=[DESTINATION_BUCKET], in_process=False, root=WORK / "stores") as gcs,
        ):
            say(f"demo: S3 server at {s3.endpoint_url}, GCS server at {gcs.endpoint_url}")
            story(s3.endpoint_url, gcs.endpoint_url, arguments)
    except (DemoFailed, subprocess.TimeoutExpired) as error:
        say(f"demo: FAILED: {error}")
        return 1
    say(f"demo: all of it held ({time.monotonic() - began:.0f} s). Logs and manifest: {WORK.relative_to(ROOT)}/")
    return 0


if __name__ == "__main__":
    sys.exit(main())
