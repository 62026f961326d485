"""OpenStack Swift with its S3 API, a real server with signature checks, on 127.0.0.1.

Its packages live in a virtual environment of their own, because they pin much of what we use: ``SKYPLANE_SERVERS_VENV``
or ``.venv-servers`` in the repository, made by ``scripts/``.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.conformance.store_case import Unavailable

ACCESS_KEY = "test:tester"
SECRET_KEY = "testing"
_REPOSITORY = Path(__file__).resolve().parents[2]
_START_LIMIT = 60.0
_STOP_LIMIT = 10.0

_COMMON = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {directory}
log_level = ERROR
log_address = /nonexistent
"""
_STORAGE = """
devices = {directory}/devices
mount_check = false
fallocate_reserve = 0
disable_fallocate = true
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
"""
_PROXY = """
[pipeline:main]
pipeline = catch_errors cache listing_formats bulk s3api tempauth symlink slo dlo versioned_writes proxy-server
[app:proxy-server]
use = egg:swift#proxy
allow_account_management = true
account_autocreate = true
# Where there is one storage server on a busy machine, one that answers late is not to be left alone for a minute.
conn_timeout = 10
node_timeout = 60
error_suppression_limit = 1000000
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:1
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:bulk]
use = egg:swift#bulk
[filter:s3api]
use = egg:swift#s3api
allow_multipart_uploads = yes
location = us-east-1
check_bucket_owner = false
s3_acl = false
min_segment_size = 5242880
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
[filter:symlink]
use = egg:swift#symlink
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
[filter:versioned_writes]
use = egg:swift#versioned_writes
allow_object_versioning = true
"""
_CONSTRAINTS = """
[swift-hash]
swift_hash_path_suffix = a
swift_hash_path_prefix = b
[storage-policy:0]
name = gold
default = yes
"""


def binaries() -> Path:
    """Where Swift's programs are. Raises Unavailable."""
    venv = Path(os.environ.get("SKYPLANE_SERVERS_VENV") or _REPOSITORY / ".venv-servers")
    if not (venv / "bin" / "swift-proxy-server").exists():
        raise Unavailable(f"no Swift in {venv}: uv venv {venv} && uv pip install -p {venv} swift python-swiftclient")
    return venv / "bin"


@contextlib.contextmanager
def swift_s3(directory: Path) -> Iterator[str]:
    """Run Swift below ``directory``; yields the S3 endpoint's URL and ends each process that it started."""
    programs = binaries()
    ports = {kind: _free_port() for kind in ("object", "container", "account", "proxy")}
    environment = {**os.environ, "PATH": f"{programs}:{os.environ.get('PATH', '')}"}
    _write_configuration(directory, ports)
    _build_rings(programs, directory, ports, environment)
    with contextlib.ExitStack() as stack:
        log = stack.enter_context((directory / "swift.log").open("wb"))
        processes = []
        for kind in ports:
            command = [str(programs / f"swift-{kind}-server"), str(directory / f"{kind}.conf")]
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, cwd=directory
            )
            processes.append(process)
            stack.callback(_stop, process)
        _wait(ports["proxy"], processes, directory / "swift.log")
        yield f"http://127.0.0.1:{ports['proxy']}"


def _write_configuration(directory: Path, ports: Mapping[str, int]) -> None:
    (directory / "devices" / "sdb1").mkdir(parents=True)
    (directory / "swift.conf").write_text(_CONSTRAINTS)
    for kind, port in ports.items():
        text = _COMMON + (_PROXY if kind == "proxy" else _STORAGE)
        filled = text.format(kind=kind, port=port, directory=directory, user=getpass.getuser())
        (directory / f"{kind}.conf").write_text(filled)


def _build_rings(programs: Path, directory: Path, ports: Mapping[str, int], environment: dict[str, str]) -> None:
    for kind in ("object", "container", "account"):
        for arguments in (
            ["create", "6", "1", "1"],
            ["add", f"r1z1-127.0.0.1:{ports[kind]}/sdb1", "1"],
            ["rebalance"],
        ):
            command = [str(programs / "swift-ring-builder"), f"{kind}.builder", *arguments]
            done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, timeout=60, check=False)
            # 1 is a warning, such as that one device holds all replicas.
            if done.returncode > 1:
                raise RuntimeError(f"{' '.join(command)}: {done.stdout.decode()}{done.stderr.decode()}")


def _wait(port: int, processes: list[subprocess.Popen[bytes]], log: Path) -> None:
    deadline = time.monotonic() + _START_LIMIT
    while time.monotonic() < deadline:
        if any(process.poll() is not None for process in processes):
            break
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2)
        except urllib.error.HTTPError as answer:
            answer.close()
            if answer.code < 500:
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"Swift did not start:\n{log.read_text()[-4000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
