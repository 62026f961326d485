"""--hosts and --host, and skyplane bundle build."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from skyplane_core.cli.context import Context
from skyplane_core.cli.program import run
from skyplane_core.provision import bundle_build
from skyplane_core.provision.bundle import Bundle, BundleInfo, Target, this_target
from skyplane_core.provision.hosts import SshHost
from tests.unit.cli.fakes import Shell

Captured = pytest.CaptureFixture[str]


def test_hosts_are_counted_as_gateways(shell: Shell) -> None:
    assert shell("cp", "-r", "src", "out", "--host", "me@192.0.2.1", "--host", "192.0.2.2:2222") == 0
    assert shell.client.gateways == 2


def test_hosts_and_another_number_of_gateways_contradict(shell: Shell, capsys: Captured) -> None:
    assert shell("cp", "-r", "src", "out", "--host", "192.0.2.1", "--gateways", "2") == 2
    assert "contradict each other" in capsys.readouterr().err
    assert shell.client.events == []


def test_a_wrong_hosts_file_is_wrong_usage(shell: Shell, capsys: Captured) -> None:
    Path("hosts.json").write_text(json.dumps({"hosts": [{"address": "a", "colour": "red"}]}))
    for command in (("cp", "-r", "src", "out"), ("status",), ("deprovision",)):
        assert shell(*command, "--hosts", "hosts.json") == 2
        assert "colour" in capsys.readouterr().err


def test_the_file_may_be_named_by_the_environment(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("hosts.json").write_text(json.dumps({"hosts": [{"address": "192.0.2.1"}, {"address": "192.0.2.2"}]}))
    monkeypatch.setenv("SKYPLANE_HOSTS", "hosts.json")
    assert shell("cp", "-r", "src", "out") == 0
    assert shell.client.gateways == 2


def test_the_client_is_made_with_the_hosts() -> None:
    hosts = (SshHost("192.0.2.1"),)
    assert Context().client(hosts=hosts).config.hosts == hosts


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[Target]:
    targets: list[Target] = []

    def build(target: Target) -> Bundle:
        targets.append(target)
        return Bundle(Path("/cache/b.zip"), BundleInfo(target, "1", "ab" * 32, 16_000_000, 50_000_000, (2, 28), ("w",)))

    monkeypatch.setattr(bundle_build, "build", build)
    return targets


def test_a_bundle_is_built_for_this_machine_or_as_asked(built: list[Target], capsys: Captured) -> None:
    assert run(["bundle", "build", "--no-json"]) == 0
    assert "glibc 2.28 or newer" in capsys.readouterr().out
    assert run(["bundle", "build", "--python", "3.12", "--arch", "aarch64", "--json"]) == 0
    event = json.loads(capsys.readouterr().out)
    assert (event["event"], event["info"]["size"]) == ("bundle", 16_000_000)
    assert built == [this_target(), Target("3.12", "aarch64")]
