"""The tools that we are compared with: how each is told to move the same objects between the same servers.

Each is a process of its own, with the number of requests at once that ours has, and with what it verifies by default.
CPU seconds are those of the process and its children (``wait4``).
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from common import DESTINATION_BUCKET, ROOT, SOURCE_BUCKET, Servers

PEERS = ROOT / ".venv-peers" / "bin"
LIMIT_SECONDS = 1800
KEY, SECRET = "BENCHACCESSKEY", "bench-secret-key"


@dataclasses.dataclass(frozen=True)
class Ran:
    """What one run needed."""

    seconds: float
    cpu_seconds: float
    peak_rss_mb: float

    def then(self, other: Ran) -> Ran:
        """Both runs, one after the other."""
        return Ran(
            self.seconds + other.seconds,
            self.cpu_seconds + other.cpu_seconds,
            max(self.peak_rss_mb, other.peak_rss_mb),
        )


@dataclasses.dataclass(frozen=True)
class Place:
    """One end of a comparison: ``s3``, ``gcs`` or ``local``, and below what. ``md5_etags``: as its ETags are."""

    kind: str
    bucket: str
    prefix: str
    endpoint_url: str = ""
    key: str = KEY
    secret: str = SECRET
    md5_etags: bool = False


def source(servers: Servers) -> Place:
    """All of the source bucket."""
    return Place("s3", SOURCE_BUCKET, "data", servers.s3.endpoint_url)


def destination(servers: Servers, who: str) -> Place:
    """A prefix of the destination bucket."""
    return Place("gcs", DESTINATION_BUCKET, who, servers.gcs.endpoint_url)


def rclone(src: Place, dst: Place, concurrency: int, part_bytes: int) -> list[str]:
    """A copy with rclone, which verifies by MD5 or CRC32C where both ends have it, and by size else."""
    return [
        str(PEERS / "rclone"),
        "copy",
        _rclone_remote(src, concurrency, part_bytes),
        _rclone_remote(dst, concurrency, part_bytes),
        f"--transfers={min(concurrency, 64)}",
        f"--checkers={min(concurrency, 64)}",
        f"--multi-thread-streams={min(concurrency, 8)}",
        f"--multi-thread-chunk-size={part_bytes}B",
        "--config=/dev/null",
        "--no-check-dest",
        "--retries=1",
        "--stats=0",
        "--quiet",
    ]


def rclone_sync(src: Place, dst: Place, concurrency: int) -> list[str]:
    """What rclone would have to copy, by size: its times of change and MD5 sums cost a request an object here."""
    return [
        str(PEERS / "rclone"),
        "sync",
        _rclone_remote(src, concurrency, 8 << 20),
        _rclone_remote(dst, concurrency, 8 << 20),
        "--dry-run",
        "--size-only",
        f"--checkers={concurrency}",
        "--config=/dev/null",
        "--retries=1",
        "--stats=0",
        "--quiet",
    ]


def rclone_check(src: Place, dst: Place, concurrency: int, part_bytes: int) -> list[str]:
    """How rclone verifies where no checksum is shared: both ends are read, and compared byte by byte."""
    return [
        str(PEERS / "rclone"),
        "check",
        "--download",
        _rclone_remote(src, concurrency, part_bytes),
        _rclone_remote(dst, concurrency, part_bytes),
        f"--checkers={min(concurrency, 64)}",
        "--config=/dev/null",
        "--retries=1",
        "--stats=0",
        "--quiet",
    ]


def _rclone_remote(place: Place, concurrency: int, part_bytes: int) -> str:
    if place.kind == "local":
        return f"{place.bucket}/{place.prefix}"
    if place.kind == "s3":
        options = (
            f'provider=Other,access_key_id="{place.key}",secret_access_key={place.secret},region=us-east-1,'
            f"force_path_style=true,no_check_bucket=true,"
            f"upload_concurrency={min(concurrency, 8)},chunk_size={part_bytes}B"
        )
        if not place.md5_etags:
            # As those of such buckets, ETags of the object server are no MD5 sums, and rclone has to be told.
            options += ',server_side_encryption="aws:kms"'
        return f':s3,{options},endpoint="{place.endpoint_url}":{place.bucket}/{place.prefix}'
    options = f'anonymous=true,no_check_bucket=true,bucket_policy_only=true,endpoint="{place.endpoint_url}/storage/v1/"'
    return f":gcs,{options}:{place.bucket}/{place.prefix}"


def s5cmd(src: Place, dst: Place, concurrency: int, part_bytes: int) -> list[str]:
    """A copy with s5cmd: one end S3, the other a directory."""
    end = src if src.kind == "s3" else dst
    return [
        str(PEERS / "s5cmd"),
        f"--endpoint-url={end.endpoint_url}",
        f"--numworkers={concurrency}",
        "--log=error",
        "cp",
        f"--concurrency={min(concurrency, 8)}",
        f"--part-size={max(5, part_bytes >> 20)}",
        _wildcard(src),
        _directory(dst),
    ]


def aws_cli(src: Place, dst: Place) -> list[str]:
    """A copy with aws-cli: one end S3, the other a directory. Its concurrency is set in :func:`environment`."""
    end = src if src.kind == "s3" else dst
    command = ["s3", "cp", "--recursive", "--only-show-errors", f"--endpoint-url={end.endpoint_url}"]
    return [str(PEERS / "aws"), *command, _directory(src), _directory(dst)]


def command(tool: str, src: Place, dst: Place, concurrency: int, part_bytes: int) -> list[str]:
    """A copy with ``rclone``, ``s5cmd`` or ``aws-cli``."""
    if tool == "rclone":
        return rclone(src, dst, concurrency, part_bytes)
    if tool == "s5cmd":
        return s5cmd(src, dst, concurrency, part_bytes)
    return aws_cli(src, dst)


def _directory(place: Place) -> str:
    root = place.bucket if place.kind == "local" else f"{place.kind}://{place.bucket}"
    return f"{root}/{place.prefix}/"


def _wildcard(place: Place) -> str:
    return _directory(place) + "*"


def stock(who: str) -> list[str]:
    """The Google provider's operator in a task's process; see stock.py."""
    return [sys.executable, str(Path(__file__).with_name("stock.py")), "--execute", "stock", "--prefix", f"{who}/"]


def environment(
    directory: Path, concurrency: int, part_bytes: int, *, key: str = KEY, secret: str = SECRET
) -> dict[str, str]:
    """Credentials and settings for these tools, none of them anybody's own."""
    config = directory / "aws-config"
    config.write_text(
        "[default]\nregion = us-east-1\ns3 =\n"
        "  addressing_style = path\n"
        f"  max_concurrent_requests = {concurrency}\n"
        f"  multipart_chunksize = {part_bytes}\n"
        f"  multipart_threshold = {part_bytes}\n"
    )
    foreign = ("AIRFLOW", "AWS_", "GOOGLE_", "CLOUDSDK_", "RCLONE_", "SKYPLANE_")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return clean | {
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_CONFIG_FILE": str(config),
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1,localhost",
    }


def run(command: list[str], env: dict[str, str]) -> Ran:
    """Run a tool to its end.

    Raises:
        RuntimeError: it failed; with the end of what it said.
    """
    began = time.perf_counter()
    process = subprocess.Popen(
        command, env=env, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    peak = _Peak(process.pid)
    said = process.stdout.read() if process.stdout is not None else b""
    _pid, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    peak.stop()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.stdout is not None:
        process.stdout.close()
    if process.returncode:
        raise RuntimeError(f"{Path(command[0]).name} ended with {process.returncode}:\n{said[-3000:].decode()}")
    return Ran(seconds, used.ru_utime + used.ru_stime, peak.mb)


class _Peak:
    """The most memory that a process has had. Not ru_maxrss, which begins with what its parent had at the fork."""

    def __init__(self, pid: int) -> None:
        self.mb = 0.0
        self._status = Path(f"/proc/{pid}/status")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            try:
                lines = self._status.read_text(encoding="ascii", errors="replace").splitlines()
            except (FileNotFoundError, ProcessLookupError):
                return
            self.mb = max([self.mb, *(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM"))])
