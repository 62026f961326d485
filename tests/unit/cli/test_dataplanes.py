import json
from pathlib import Path

import pytest

from skyplane_core.cli import records
from skyplane_core.errors import GatewayUnreachable
from tests.unit.cli.fakes import Shell

Captured = pytest.CaptureFixture[str]


@pytest.mark.usefixtures("left_behind")
def test_status_tells_what_was_left_behind(shell: Shell, capsys: Captured) -> None:
    assert shell("status", "--no-json") == 0
    assert capsys.readouterr().out.splitlines() == [
        "dp-busy: in use (g1 at 127.0.0.1)",
        "dp-old: left behind (g1 at 127.0.0.1)",
    ]
    shell.client.alive = False
    assert shell("status", "--json") == 0
    assert [json.loads(line)["state"] for line in capsys.readouterr().out.splitlines()] == ["gone", "gone"]
    assert shell.client.events == []


def test_status_without_any(shell: Shell, capsys: Captured) -> None:
    assert shell("status", "--no-json") == 0
    assert shell("deprovision", "--no-json") == 0
    assert capsys.readouterr().out == "No dataplanes.\nNothing to stop.\n"


@pytest.mark.usefixtures("left_behind")
def test_deprovision_leaves_running_commands_alone(shell: Shell) -> None:
    assert shell("deprovision") == 0
    assert shell.client.events == ["deprovision dp-old"]
    assert [record.reference.dataplane_id for record in records.recorded()] == ["dp-busy"]


@pytest.mark.usefixtures("left_behind")
def test_deprovision_all_and_by_name(shell: Shell) -> None:
    assert shell("deprovision", "dp-busy") == 0
    assert shell("deprovision", "--all") == 0
    assert shell.client.events == ["deprovision dp-busy", "deprovision dp-old"]
    assert list(records.recorded()) == []


@pytest.mark.usefixtures("left_behind")
def test_one_that_cannot_be_reached_stays_on_the_list_until_it_is_forgotten(shell: Shell, capsys: Captured) -> None:
    shell.client.deprovisions = GatewayUnreachable("gateway-0 could not be stopped", where="me@192.0.2.1:22")
    assert shell("deprovision", "--all") == 3
    assert shell.client.events == ["deprovision dp-busy", "deprovision dp-old"]
    assert "me@192.0.2.1:22" in capsys.readouterr().err
    assert len(list(records.recorded())) == 2
    assert shell("deprovision", "dp-old", "--forget") == 0
    assert [record.reference.dataplane_id for record in records.recorded()] == ["dp-busy"]


@pytest.mark.usefixtures("left_behind")
def test_an_unknown_name_stops_nothing(shell: Shell, capsys: Captured) -> None:
    assert shell("deprovision", "dp-old", "dp-none") == 2
    assert "dp-none" in capsys.readouterr().err
    assert shell.client.events == []


def test_a_half_written_record_is_passed_over(shell: Shell) -> None:
    directory = shell.home / "state" / "skyplane" / "dataplanes"
    directory.mkdir(parents=True)
    (directory / "x.json").write_bytes(b'{"data')
    assert list(records.recorded()) == []


def test_a_dataplane_is_on_record_while_it_runs_for_its_owner_alone(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, int, bool]] = []

    def progress(*_: object) -> None:
        [path], [record] = records.directory().iterdir(), records.recorded()
        seen.append((path.name, path.stat().st_mode & 0o777, record.in_use))

    monkeypatch.setattr("skyplane_core.cli.show.JsonShow.progress", progress)
    assert shell("cp", "-r", "--json", "src", "out") == 0
    assert set(seen) == {("dp-new.json", 0o600, True)}
    assert list(records.recorded()) == []


def test_a_relative_state_home_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert records.directory() == Path.home() / ".local" / "state" / "skyplane" / "dataplanes"
