"""Machines of the lab: what is on them, what is not, and that they can be logged into and lost."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from skyplane_core.testing.lab import FakeVm, Host, LabError, Link, Topology, Wan, both_ways
from tests.lab.traffic import connection, dial

ROOT = Path(__file__).resolve().parents[2]
TOPOLOGY = Topology(
    (
        Host(name="laptop", ip="10.9.0.1", region="home", dials=frozenset({("head", 22)})),
        Host(name="head", ip="10.1.0.1", region="west"),
        Host(name="worker", ip="10.1.0.2", region="west", inbound_ports=frozenset({22})),
    ),
    both_ways(Link(source="home", target="west", delay_ms=5)),
)


@pytest.fixture(scope="module")
def lab() -> Iterator[tuple[Wan, FakeVm]]:
    """A lab whose machine "head" no test changes."""
    with Wan(TOPOLOGY) as wan, FakeVm(wan, "head") as vm:
        yield wan, vm


def login(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)


def test_a_key_logs_in_from_another_host(lab):
    _wan, vm = lab
    done = login(vm.ssh("laptop", "hostname; echo $SSH_CONNECTION; cat"), input="through the link")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "head\n" + done.stdout.split("\n")[1] + "\nthrough the link"
    assert done.stdout.split("\n")[1].split()[::2] == ["10.9.0.1", "10.1.0.1"]


def test_another_key_or_host_key_does_not(lab, tmp_path):
    _wan, vm = lab
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    other = [word.replace(str(vm.key_file), str(tmp_path / "key")) for word in vm.ssh("laptop", "true")]
    assert "Permission denied" in login(other).stderr
    (tmp_path / "known_hosts").write_text(f"{vm.address} {(tmp_path / 'key.pub').read_text()}")
    changed = login(vm.ssh("laptop", "true", options=["-o", f"UserKnownHostsFile={tmp_path / 'known_hosts'}"]))
    # ssh takes the first of each option, which is ours.
    assert changed.returncode == 0
    known = [f"UserKnownHostsFile={tmp_path / 'known_hosts'}" if "KnownHosts" in it else it for it in vm.ssh("laptop")]
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in login([*known, "true"]).stderr


def test_the_head_forwards_to_a_worker_that_nobody_else_reaches(lab):
    wan, vm = lab
    with FakeVm(wan, "worker") as worker:
        with pytest.raises(TimeoutError):
            dial(wan, "laptop", "worker", 22, timeout=1)
        with pytest.raises(TimeoutError):
            dial(wan, "laptop", "head", 8080, timeout=1)
        proxy = " ".join([*vm.ssh("laptop")[4:], "-W", "%h:%p"])
        done = login(worker.ssh("laptop", "hostname", options=["-o", f"ProxyCommand={proxy}"]))
        assert done.stdout == "worker\n", done.stderr


@pytest.mark.parametrize("module", ["airflow", "skyplane_core", "gateway", "msgspec", "pip", "ensurepip", "setuptools"])
def test_nothing_that_is_installed_here_can_be_imported_there(lab, module):
    _wan, vm = lab
    done = vm.run(f"python3 -c 'import {module}'")
    assert f"No module named '{module}'" in done.stderr


def test_python_is_the_distributions_and_bare(lab):
    _wan, vm = lab
    done = vm.run(
        "command -v python3; command -v pip pip3 uv virtualenv; python3 -c 'import ssl, json, lzma; print(1)'"
    )
    assert done.stdout == "/usr/bin/python3\n1\n", done.stderr


def test_no_checkout_environment_or_home_is_to_be_seen(lab):
    _wan, vm = lab
    names = [".git", "pyvenv.cfg", "site-packages", "dist-packages", "ensurepip", ".pyenv", "skyplane_core"]
    words = " -o ".join(f"-name {name}" for name in names)
    assert not vm.run(f"find / -xdev \\( {words} \\) -print").stdout
    assert vm.run(f"test -e {ROOT}").returncode == 1
    assert vm.run("ls -A /tmp /root /home /var/tmp /dev/shm").stdout.split() == [
        *("/dev/shm:", "/home:", "/root:", ".ssh", "/tmp:", "/var/tmp:")
    ]


def test_it_sees_its_own_processes_names_and_network(lab):
    _wan, vm = lab
    done = vm.run("hostname; getent hosts worker; ls -d /proc/[0-9]* | wc -l; grep -c overlay /proc/mounts")
    hostname, worker, processes, overlays = done.stdout.splitlines()
    assert (hostname, worker.split(), overlays) == ("head", ["10.1.0.2", "worker"], "1")
    assert int(processes) < 10
    assert "10.1.0.1/32" in vm.run("ip -o addr").stdout
    assert "default" not in vm.run("ip route").stdout
    assert vm.processes()[0].pid == 1
    assert "sshd" in vm.processes()[0].command


def test_what_it_writes_stays_there_and_ends_with_it(lab):
    wan, _vm = lab
    mark = Path("/etc/written-by-a-machine-of-the-lab")
    with FakeVm(wan, "worker") as vm:
        key = vm.host_key
        assert vm.run(f"echo hello > {mark}; chmod 700 /usr/bin/python3; (sleep 600 >/dev/null 2>&1 &)").returncode == 0
        assert vm.run(f"cat {mark}").stdout == "hello\n"
        assert not mark.exists()
        assert any("sleep" in process.command for process in vm.processes())
        vm.kill()
        assert not vm.processes()
        with pytest.raises(LabError, match="machine worker is off"):
            vm.run("true")
        vm.start()
        assert vm.run(f"cat {mark}").returncode == 1
        assert vm.host_key == key
        assert login(vm.ssh("head", "true")).returncode == 0


def test_a_peer_of_a_machine_that_loses_power_hears_nothing(lab):
    wan, _vm = lab
    with FakeVm(wan, "worker") as vm, connection(wan, "worker", "head") as (dialled, accepted):
        dialled.sendall(b"alive")
        assert accepted.recv(100) == b"alive"
        vm.kill()
        dialled.close()
        accepted.settimeout(1)
        with pytest.raises(TimeoutError):
            accepted.recv(1)


def test_a_machine_may_be_without_python(lab):
    wan, _vm = lab
    with FakeVm(wan, "worker", python=None) as vm:
        assert vm.run("python3 -V").returncode == 127
        assert vm.run("ls /usr/bin/python*").stdout == ""
        assert login(vm.ssh("head", "python3 -V")).returncode == 127


def test_python_may_pretend_to_be_of_another_version(lab):
    wan, _vm = lab
    with FakeVm(wan, "worker", python="3.9.2") as vm:
        done = vm.run("python3 --version; python3 -I -c 'import sys; print(sys.version_info[:3], sys.version[:5])'")
        assert done.stdout.splitlines() == ["Python 3.9.2", "(3, 9, 2) 3.9.2"]
        assert vm.run("python3.11 --version").returncode == 127


def test_further_paths_can_be_hidden(lab):
    wan, _vm = lab
    with FakeVm(wan, "worker", hide=["/etc/debian_version", "/bin/tac", "/not/there"]) as vm:
        assert vm.run("cat /etc/debian_version").returncode == 1
        assert vm.run("tac /etc/hostname").returncode == 127
        assert vm.run("readlink /bin").stdout == "usr/bin\n"


def test_a_machine_that_does_not_come_up_says_why(lab):
    wan, _vm = lab
    vm = FakeVm(wan, "worker", hide=["/usr/sbin/sshd"])
    with pytest.raises(LabError, match=r"machine worker did not come up(.|\n)*No such file"):
        vm.start()
    assert not vm.processes()


def test_one_machine_a_host(lab):
    wan, vm = lab
    with pytest.raises(LabError, match="running already"):
        vm.start()
    with pytest.raises(ValueError, match="no host 'nobody'"):
        FakeVm(wan, "nobody")


def test_machines_obey_the_congestion_control_that_is_allowed():
    topology = msgspec.structs.replace(TOPOLOGY, seed=2)
    ask = 'import socket; s = socket.socket(); s.setsockopt(6, socket.TCP_CONGESTION, b"bbr")'
    with contextlib.ExitStack() as stack:
        wan = stack.enter_context(Wan(topology, congestion="cubic", allowed_congestion=["cubic"]))
        vm = stack.enter_context(FakeVm(wan, "head"))
        assert vm.run("cat /proc/sys/net/ipv4/tcp_congestion_control").stdout == "cubic\n"
        assert "PermissionError" in vm.run(f"python3 -c '{ask}'").stderr
        assert "PermissionError" in login(vm.ssh("laptop", f"python3 -c '{ask}'")).stderr
