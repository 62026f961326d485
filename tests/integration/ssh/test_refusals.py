"""Hosts that cannot become gateways: each is named, with what is wrong and what to do, and nothing is left on any."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from skyplane_core.errors import GatewayError, ProvisionFailed, UsageError
from skyplane_core.provision import ssh as ssh_module
from skyplane_core.provision.bundle import Bundle, this_target
from skyplane_core.provision.hosts import SshHost
from tests.integration.ssh.conftest import Provision, Serve, pretend, processes_of
from tests.servers.sshd import SshServer, keypair


def fails(provision: Provision, good: SshServer, bad: SshHost) -> str:
    """What is told when ``bad`` is one of two hosts; the other is left as it was."""
    with pytest.raises(ProvisionFailed) as failure:
        provision(good.host, bad).start(2)
    assert bad.label in str(failure.value)
    assert list(good.home.iterdir()) == []
    assert processes_of(good) == []
    return str(failure.value)


def fingerprint(server: SshServer) -> str:
    shown = subprocess.run(["ssh-keygen", "-lf", server.host_key], capture_output=True, text=True, check=True)
    return shown.stdout.split()[1]


def test_an_unknown_host_key(serve: Serve, provision: Provision) -> None:
    good, bad = serve(), serve()
    bad.known_hosts.write_text("")
    told = fails(provision, good, bad.host)
    assert fingerprint(bad) in told
    assert "has no key for it" in told
    assert "pin it as host_key" in told


def test_a_changed_host_key(serve: Serve, provision: Provision) -> None:
    good, bad = serve(), serve()
    before = fingerprint(bad)
    bad.stop()
    bad.new_host_key()
    bad.start()
    told = fails(provision, good, bad.host)
    assert fingerprint(bad) in told
    assert before in told


def test_a_pinned_key_that_is_not_shown(serve: Serve, provision: Provision) -> None:
    good, bad = serve(), serve()
    told = fails(provision, good, bad.host_with(host_key=fingerprint(good)))
    assert fingerprint(bad) in told
    assert fingerprint(good) in told
    line = Path(f"{good.host_key}.pub").read_text()
    assert fingerprint(bad) in fails(provision, good, bad.host_with(host_key=line))


@pytest.mark.parametrize("form", ["fingerprint", "line"])
def test_a_pinned_key_needs_no_known_hosts(serve: Serve, provision: Provision, form: str) -> None:
    server = serve()
    server.known_hosts.unlink()
    pin = fingerprint(server) if form == "fingerprint" else Path(f"{server.host_key}.pub").read_text()
    assert len(provision(server.host_with(host_key=pin, known_hosts="")).start(1)) == 1


def test_a_known_hosts_file_with_hashed_names(serve: Serve, provision: Provision) -> None:
    server, stranger = serve(), serve()
    both = server.known_hosts.read_text() + f"unrelated {Path(f'{stranger.host_key}.pub').read_text()}"
    server.known_hosts.write_text(both)
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", server.known_hosts], check=True, capture_output=True)
    assert server.address not in server.known_hosts.read_text()
    assert len(provision(server.host).start(1)) == 1
    told = fails(provision, serve(), stranger.host_with(known_hosts=str(server.known_hosts)))
    assert "has no key for it" in told


def test_a_known_hosts_file_with_revoked_keys_is_not_trusted(serve: Serve, provision: Provision) -> None:
    server = serve()
    key = Path(f"{server.host_key}.pub").read_text()
    server.known_hosts.write_text(f"@revoked * {key}{server.known_hosts.read_text()}")
    with pytest.raises(UsageError, match="@revoked lines is not used"):
        provision(server.host).start(1)


def test_a_host_that_refuses_connections(serve: Serve, provision: Provision) -> None:
    good, bad = serve(), serve()
    bad.stop()
    assert "cannot be reached by SSH" in fails(provision, good, bad.host)


def test_a_key_that_is_refused(serve: Serve, provision: Provision, tmp_path: Path) -> None:
    good, bad = serve(), serve()
    told = fails(provision, good, bad.host_with(key=str(keypair(tmp_path / "other"))))
    assert "refuses the login" in told
    assert "authorized_keys" in told


def test_a_key_in_memory_is_as_good_as_a_file(serve: Serve, provision: Provision) -> None:
    server = serve()
    host = server.host_with(key="", private_key=server.client_key.read_text())
    assert len(provision(host).start(1)) == 1


def test_no_python(serve: Serve, provision: Provision) -> None:
    good, bad = serve(), serve()
    told = fails(provision, good, bad.host_with(python="python3-of-nowhere"))
    assert "has no python3-of-nowhere" in told
    assert list(bad.home.iterdir()) == []


def test_a_python_without_a_bundle_here(serve: Serve, provision: Provision, monkeypatch, tmp_path, bundle) -> None:
    good, bad = serve(), serve()
    # A cache in which only the bundle for this interpreter is.
    alone = tmp_path / "cache" / "skyplane" / "bundles"
    alone.mkdir(parents=True)
    for path in (bundle.path, bundle.path.with_suffix(".json")):
        (alone / path.name).symlink_to(path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    other = 13 if sys.version_info[1] != 13 else 12
    pretend(bad, f"sys.version_info = (3, {other}, 2)")
    told = fails(provision, good, bad.host)
    assert f"3.{other}.2" in told
    assert str(this_target()) in told
    assert f"skyplane bundle build --python 3.{other} --arch" in told


def test_a_python_that_is_too_old(serve: Serve, provision: Provision) -> None:
    good, bad = serve(), serve()
    pretend(bad, "sys.version_info = (3, 9, 18)")
    told = fails(provision, good, bad.host)
    assert "cpython 3.9.18" in told
    assert "There are bundles for: 3.10" in told


def test_another_architecture(serve: Serve, provision: Provision) -> None:
    good, bad = serve(), serve()
    pretend(bad, 'os.uname = lambda: type("Uname", (), {"machine": "riscv64"})')
    assert "riscv64" in fails(provision, good, bad.host)


@pytest.mark.parametrize(("libc", "told"), [("glibc 2.17", "it has glibc 2.17"), ("", "it has no glibc")])
def test_a_c_library_that_is_too_old(serve: Serve, provision: Provision, libc: str, told: str) -> None:
    good, bad = serve(), serve()
    pretend(bad, f'os.confstr = lambda name: "{libc}"')
    message = fails(provision, good, bad.host)
    assert told in message
    assert "glibc 2.28 or newer is needed" in message


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_disk_that_is_too_small(serve: Serve, provision: Provision, small_disk: Path) -> None:
    good, bad = serve(), serve()
    told = fails(provision, good, bad.host_with(directory=str(small_disk)))
    assert "the host's disk is full" in told
    assert "25 MB free" in told
    assert list(small_disk.iterdir()) == []


def test_a_disk_that_fills_up_while_the_bundle_arrives(
    serve: Serve, provision: Provision, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = serve(), serve()
    # The look at the free space says yes; then somebody else takes it.
    pretend(
        bad,
        'statvfs = os.statvfs; os.statvfs = lambda path: type("Disk", (), {"f_bavail": 1 << 30, "f_frsize": 4096})',
    )
    told = fails(provision, good, bad.host_with(directory=str(small_disk)))
    assert "the host's disk is full" in told
    assert "No space left on device" in told
    assert list(small_disk.iterdir()) == []


def test_a_directory_that_is_not_there(serve: Serve, provision: Provision) -> None:
    good, bad = serve(), serve()
    told = fails(provision, good, bad.host_with(directory=str(bad.home / "nowhere")))
    assert "nowhere" in told


def test_a_bundle_that_changed_on_its_way(
    serve: Serve, provision: Provision, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = serve(), serve()
    spoilt = tmp_path / "spoilt.zip"
    content = bytearray(bundle.path.read_bytes())
    content[len(content) // 2] ^= 1
    spoilt.write_bytes(content)
    choose = ssh_module._bundle_for

    def chosen(host: SshHost, probe: object) -> Bundle:
        right = choose(host, probe)
        return Bundle(spoilt, right.info) if host.address == bad.address else right

    monkeypatch.setattr(ssh_module, "_bundle_for", chosen)
    told = fails(provision, good, bad.host)
    assert "did not arrive whole" in told
    assert bundle.info.sha256 in told
    assert list(bad.home.iterdir()) == []


def test_a_gateway_that_dies_at_its_start_shows_its_log(serve: Serve, provision: Provision) -> None:
    good, bad = serve(), serve()
    # An address that the host does not have: the daemon itself finds out.
    told = fails(provision, good, bad.host_with(bind="203.0.113.77"))
    assert "the gateway did not start" in told
    assert "it ended with exit status 3" in told
    assert "cannot listen on 203.0.113.77" in told
    assert list(bad.home.iterdir()) == []
    assert processes_of(bad) == []


def test_a_gateway_that_does_not_answer(serve: Serve, provision: Provision) -> None:
    good, bad = serve(), serve()
    # Whatever is started from a directory sleeps, so that only the script that is sent runs as it should.
    real = os.path.realpath(sys.executable)
    stub = bad.bin / "python3"
    stub.unlink()
    stub.write_text(f'#!/bin/sh\nexec {real} "$@"\n')
    stub.chmod(0o755)
    slow = bad.bin / "slow"
    slow.write_text(f'#!/bin/sh\necho still thinking >&2\nexec {real} -c "import time; time.sleep(300)" "$3"\n')
    slow.chmod(0o755)
    pretend(bad, f'sys.executable = "{slow}"')
    with pytest.raises(ProvisionFailed, match="did not answer within 2 s") as failure:
        provision(good.host, bad.host, start_seconds=2.0).start(2)
    assert "still thinking" in str(failure.value)
    assert list(bad.home.iterdir()) == []
    assert processes_of(bad) == []


def test_a_gateway_whose_port_nobody_reaches(serve: Serve, provision: Provision) -> None:
    good, bad = serve(), serve(forwarding=False)
    # It listens elsewhere than at its address, and sshd forwards nothing.
    told = fails(provision, good, bad.host_with(bind="127.10.9.9"))
    assert "cannot be reached by SSH" in told
    assert "prohibited" in told
    assert list(bad.home.iterdir()) == []


def test_a_login_shell_that_talks_is_no_trouble(serve: Serve, provision: Provision) -> None:
    server = serve()
    (server.home / ".bashrc").write_text("echo Welcome; echo '{\"python\": 1}'\n")
    assert len(provision(server.host).start(1)) == 1


def test_settings_are_refused_before_anything_is_connected(
    serve: Serve, provision: Provision, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()
    server.stop()
    wrong = tmp_path / "wrong"
    wrong.write_text("no key")
    for settings, told in (
        ({"key": "/nowhere/key"}, "cannot be read"),
        ({"key": str(wrong)}, "not a private key"),
        ({"known_hosts": "/nowhere/known"}, "not there"),
    ):
        with pytest.raises(UsageError, match=told) as refusal:
            provision(server.host_with(**settings)).start(1)
        assert server.host.label in str(refusal.value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(UsageError, match="skyplane bundle build"):
        provision(server.host).start(1)


def test_too_few_ports(serve: Serve, provision: Provision, free_port) -> None:
    good, bad = serve(), serve()
    low = bad.port
    # sshd itself has the first of the two.
    told = fails(provision, good, bad.host_with(ports=f"{low}-{low + 1}"))
    assert "too few ports are free" in told


def test_a_port_range_is_kept_to(serve: Serve, provision: Provision) -> None:
    server = serve()
    low = server.port + 1 if server.port < 60000 else server.port - 30
    [address] = provision(server.host_with(ports=f"{low}-{low + 25}")).start(1)
    assert {low <= port <= low + 25 for port in (address.control_port, address.wire_port)} == {True}
    assert address.control_port != address.wire_port


def test_errors_hold_no_key(serve: Serve) -> None:
    server = serve()
    host = server.host_with(key="", private_key=server.client_key.read_text(), passphrase="canary")
    for shown in (repr(host), str(host), str(msgspec.structs.replace(host, port=23))):
        assert "PRIVATE" not in shown
        assert "canary" not in shown


def test_the_tree_of_errors_is_caught_as_one() -> None:
    assert issubclass(ProvisionFailed, GatewayError)
