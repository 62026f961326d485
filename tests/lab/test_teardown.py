"""Nothing of a lab outlives it, however it ends. The fixture of this directory looks; these tests end it badly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from skyplane_core.testing.lab import FakeVm, LabError, Wan
from tests.lab.conftest import traces, two_hosts

OWNER = """
import signal, time
# It may have been started by a shell in the background, which has its children ignore this signal.
signal.signal(signal.SIGINT, signal.default_int_handler)
from skyplane_core.testing.lab import FakeVm, Wan
from tests.lab.conftest import two_hosts
with Wan(two_hosts()) as wan, FakeVm(wan, "a") as vm:
    vm.run("(sleep 1000 >/dev/null 2>&1 &)")
    print("ready", flush=True)
    time.sleep(1000)
"""


def test_an_exception_ends_all_of_it():
    def broken() -> None:
        with Wan(two_hosts()) as wan:
            vm = FakeVm(wan, "a")
            vm.start()
            subprocess.Popen(wan.command("b", ["sleep", "1000"])).returncode = 0  # nobody waits for it
            raise ZeroDivisionError

    # Servers that other tests of this run share may be there.
    before = set(psutil.Process().children(recursive=True))
    with pytest.raises(ZeroDivisionError):
        broken()
    after = set(psutil.Process().children(recursive=True)) - before
    assert not [child for child in after if child.status() != "zombie"]


def test_a_namespace_that_cannot_be_made_leaves_none():
    with (
        pytest.raises(LabError, match=r"cannot set net\.ipv4\.nonsense"),
        Wan(two_hosts(), sysctls={"net.ipv4.nonsense": "1"}),
    ):
        pass


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_lab_ends_with_the_process_that_made_it(number, tmp_path):
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True, env=os.environ | {"TMPDIR": str(tmp_path)}
    )
    with owner:
        assert owner.stdout.readline() == "ready\n"
        family = psutil.Process(owner.pid).children(recursive=True)
        assert traces(owner.pid)
        owner.send_signal(number)
        owner.wait(60)
    deadline = time.monotonic() + 60
    while traces(owner.pid) or any(child.is_running() and child.status() != "zombie" for child in family):
        assert time.monotonic() < deadline, traces(owner.pid)
        time.sleep(0.05)


def test_a_router_that_died_is_named():
    with Wan(two_hosts()) as wan:
        wan._router.kill()
        with pytest.raises(LabError, match="router ended"):
            wan.counters("west", "east")


def test_without_root_it_says_so():
    # It may read the interpreter wherever that is, and is somebody else all the same.
    read = "+dac_override,+dac_read_search"
    words = ["setpriv", "--reuid", "65534", "--clear-groups", "--inh-caps", read, "--ambient-caps", read]
    done = subprocess.run(
        [*words, sys.executable, "-c", OWNER], capture_output=True, text=True, check=False, timeout=60
    )
    assert "LabError: a lab makes network namespaces and TUN devices: run as root" in done.stderr
