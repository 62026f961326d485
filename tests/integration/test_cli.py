"""The program itself, with real gateways, between directories of this machine."""

import gzip
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from pyarrow import parquet  # noqa: TID253 - what others read these files with

from skyplane_core.testing.objectserver import ObjectServer

ROOT = Path(__file__).resolve().parents[2]


class Program:
    def __init__(self, home: Path) -> None:
        self.home = home
        self.env = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "XDG_STATE_HOME": str(home / "state"),
            "XDG_CONFIG_HOME": str(home / "config"),
        }

    def start(self, *argv: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "skyplane_core.cli", *argv],
            cwd=self.home, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __call__(self, *argv: str) -> tuple[int, list[dict[str, Any]], str]:
        with self.start(*argv) as process:
            out, err = process.communicate(timeout=90)
        return process.returncode, [json.loads(line) for line in out.splitlines()], err


@pytest.fixture
def program(tmp_path: Path) -> Program:
    for name, content in {"a": b"a" * 40_000_000, "sub/b": b"b", "sub/empty": b""}.items():
        path = tmp_path / "src" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return Program(tmp_path)


@pytest.mark.parametrize("gateways", ["1", "2"])
def test_a_tree_arrives_and_nothing_is_left_running(program: Program, gateways: str) -> None:
    code, events, err = program("cp", "-r", "--gateways", gateways, "--receipt", "receipt", "src", "out")
    assert (code, events[-1]["event"]) == (0, "result"), err
    for name in ("a", "sub/b", "sub/empty"):
        assert (program.home / "out" / name).read_bytes() == (program.home / "src" / name).read_bytes()
    assert len((program.home / "receipt").read_text().splitlines()) == 4
    assert program("status")[1] == [{"event": "dataplanes", "count": 0}]


def test_a_sync_copies_what_differs(program: Program) -> None:
    assert program("sync", "src", "out")[0] == 0
    (program.home / "src" / "sub" / "b").write_bytes(b"longer")
    code, events, _ = program("sync", "--compare", "size", "--dry-run", "src", "out")
    assert code == 0
    assert [(event["action"], event["reason"]) for event in events if event["event"] == "decision"] == [
        ("skip", "same-size"),
        ("copy", "changed-size"),
        ("skip", "same-size"),
    ]
    assert program("sync", "--compare", "size", "src", "out")[0] == 0
    assert (program.home / "out" / "sub" / "b").read_bytes() == b"longer"


def test_a_mirror_is_planned_capped_and_made(program: Program) -> None:
    assert program("sync", "src", "out")[0] == 0
    for name in ("old", "old.tmp"):
        (program.home / "out" / name).write_bytes(b"xyz")
    (program.home / "src" / "new.tmp").write_bytes(b"")
    mirror = ["sync", "--delete", "--exclude", "*.tmp", "src", "out"]
    code, events, _ = program(*mirror, "--dry-run")
    assert code == 0
    assert [event["action"] for event in events if event["event"] == "decision"] == ["skip", "delete", "skip", "skip"]
    assert [(event["delete"], event["bytes_deleted"]) for event in events if event["event"] == "dry-run"] == [(1, 3)]
    code, events, err = program(*mirror, "--max-delete", "0")
    assert (code, "would delete more than it may" in err) == (1, True)
    assert (program.home / "out" / "old").exists()
    code, events, err = program(*mirror)
    assert (code, events[-1]["progress"]["objects_deleted"]) == (0, 1), err
    found = sorted(path.name for path in (program.home / "out").iterdir())
    assert found == [".skyplane", "a", "old.tmp", "sub"]


def test_a_receipt_in_a_bucket_has_the_environments_credentials(program: Program) -> None:
    with ObjectServer("s3", buckets=["log"], credentials={"AK": "SK"}) as server:
        program.env |= {"AWS_ACCESS_KEY_ID": "AK", "AWS_SECRET_ACCESS_KEY": "SK", "AWS_DEFAULT_REGION": "us-east-1"}
        where = ("--endpoint-url-receipt", server.endpoint_url)
        code, events, err = program("cp", "-r", "--receipt", "s3://log/runs/", *where, "src/sub", "out")
        assert code == 0, err
        (key,) = server.list("log")
        assert events[-1]["progress"]["receipt"] == f"s3://log/{key}"
        assert len(server.get("log", key).splitlines()) == 3
        assert "SK" not in " ".join(map(str, events)) + err
        missing = program("cp", "-r", "--receipt", "s3://none/runs/", *where, "src/sub", "other")
        assert missing[0] == 3
        assert "s3://none" in missing[2]
    assert not (program.home / "other").exists() or not list((program.home / "other").iterdir())


def test_a_receipt_on_this_machine_has_the_format_of_its_name(program: Program) -> None:
    for name in ("r.jsonl.gz", "r.parquet"):
        assert program("sync", "--receipt", name, "src/sub", "out")[0] == 0
    assert len(gzip.decompress((program.home / "r.jsonl.gz").read_bytes()).splitlines()) == 3
    rows = parquet.read_table(program.home / "r.parquet").to_pylist()
    assert [row["outcome"] for row in rows] == ["skipped"] * 2


def test_a_dry_run_says_what_it_would_cost(program: Program) -> None:
    code, events, _ = program("sync", "--dry-run", "src/sub", "out")
    assert code == 0
    assert events[-2] == {"event": "cost", "usd": 0.0, "usd_known": 0.0, "usd_month": 0.0, "unknown": []}


@pytest.mark.parametrize("command", [["cp", "-r"], ["sync"]], ids=" ".join)
@pytest.mark.parametrize("source", ["nowhere", "nowhere/", "src/nowhere"])
def test_nothing_is_made_for_a_source_that_is_not_there(program: Program, command: list[str], source: str) -> None:
    code, events, err = program(*command, source, "out")
    assert code in (2, 3)
    assert [event["event"] for event in events] == ["error"]
    where = f"file://{program.home}/{source.rstrip('/')}"
    assert err == f"Error: the directory does not exist [{where}]. Create it, or check its name.\n"
    assert sorted(path.name for path in program.home.iterdir()) == ["src"]


def test_an_empty_directory_is_one_with_nothing_in_it(program: Program) -> None:
    (program.home / "empty").mkdir()
    code, _, err = program("sync", "empty", "out")
    assert code == 2
    assert "there is nothing under the source" in err


def many_small_files(program: Program) -> None:
    for number in range(3000):
        (program.home / "src" / f"{number:04}").write_bytes(b"x")


def broken_off(program: Program, end: Callable[[subprocess.Popen[str]], object]) -> tuple[int, str]:
    """A copy of many files that ``end`` stops after some have arrived: exit code and stderr."""
    many_small_files(program)
    with program.start("cp", "-r", "--concurrency", "1", "src", "out") as process:
        while not any((program.home / "out").glob("[0-9]*")):
            assert process.poll() is None
            time.sleep(0.01)
        end(process)
        _, err = process.communicate(timeout=120)
    return process.returncode, err


INTERRUPTED_IMPORT = """
import os, signal, sys

class Interrupts:
    def find_spec(self, name, *_):
        if name == "click":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupts())
from skyplane_core.cli.main import main
main()
"""


@pytest.mark.parametrize("mode", ["--json", "--no-json"])
def test_what_is_interrupted_while_it_is_imported_says_so(program: Program, mode: str) -> None:
    argv = [sys.executable, "-c", INTERRUPTED_IMPORT, "cp", "-r", mode, "src", "out"]
    done = subprocess.run(argv, cwd=program.home, env=program.env, capture_output=True, text=True, check=False)
    assert done.stderr == "Error: cancelled. The gateways that were started have been stopped.\n"
    assert done.returncode == 4
    assert [json.loads(line)["exit_code"] for line in done.stdout.splitlines()] == [4] * (mode == "--json")
    assert not (program.home / "out").exists()


def test_what_was_cancelled_is_completed_as_the_message_says(program: Program) -> None:
    code, err = broken_off(program, lambda process: process.send_signal(signal.SIGINT))
    assert code == 4
    assert "--compare exact" in err
    code, events, err = program("cp", "-r", "--compare", "exact", "src", "out")
    assert code == 0, err
    assert events[-1]["progress"]["objects_skipped"] > 0
    assert len([path for path in (program.home / "out").glob("*") if path.is_file()]) == 3001


def test_what_lost_its_gateways_is_continued_as_the_message_says(program: Program) -> None:
    code, err = broken_off(program, kill_gateways)
    assert code == 3
    found = re.search(r"--resume ([0-9a-f]{32})", err)
    assert found is not None, err
    code, events, err = program("cp", "-r", "--resume", found[1], "src", "out")
    assert code == 0, err
    assert events[-1]["progress"]["objects_skipped"] > 0
    assert len([path for path in (program.home / "out").glob("*") if path.is_file()]) == 3001


def kill_gateways(process: subprocess.Popen[str]) -> None:
    for gateway in psutil.Process(process.pid).children():
        gateway.kill()


def test_a_dataplane_whose_owner_was_killed_is_found_and_stopped(program: Program) -> None:
    many_small_files(program)
    with program.start("cp", "-r", "--concurrency", "1", "src", "out") as process:
        assert process.stdout is not None
        next(line for line in process.stdout if '"progress"' in line)
        process.send_signal(signal.SIGKILL)
    [left] = program("status")[1]
    assert left["state"] == "left behind"
    assert program("deprovision")[1] == [{"event": "deprovisioned", "dataplane_id": left["dataplane_id"]}]
    assert program("status")[1] == [{"event": "dataplanes", "count": 0}]
