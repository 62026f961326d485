"""How a transfer goes and ends on the command line: what is done, what is said, and with which exit code."""

import json
import os
import resource
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from skyplane_core.compare import Action
from skyplane_core.diff import Decision
from skyplane_core.errors import GatewayUnreachable, ObjectNotFound, ProvisionFailed
from skyplane_core.model import ObjectInfo, Precondition
from skyplane_core.spec import Progress, TransferState
from tests.unit.cli.fakes import CANCELLED, DONE, FAILED, LINE, NEW, RUNNING, Captured, Shell, Step

CARRIED_OUT = ["provision", "submit", "deprovision dp-new"]


def events(capsys: Captured) -> list[str]:
    return [json.loads(line)["event"] for line in capsys.readouterr().out.splitlines()]


def test_a_copy_is_planned_provisioned_watched_and_torn_down(shell: Shell, capsys: Captured) -> None:
    assert shell("cp", "-r", "src", "out") == 0
    assert shell.client.events == CARRIED_OUT
    assert shell.checked == shell.client.prepared
    assert events(capsys) == ["plan", "progress", "progress", "result"]


COST_OF_NOTHING = "Cost by list prices: $0.00 once, then $0.00 a month for what is copied."


def test_a_dry_run_tells_what_would_go_and_what_would_be_left(shell: Shell, capsys: Captured) -> None:
    gone = Decision(Action.DELETE, ObjectInfo("old", 2048, "w"), "old", "extraneous", Precondition(version="w"), 1.0)
    shell.client.decisions = [Decision(Action.COPY, NEW, "a", "new"), gone]
    shell.client.stopped = ["max_bytes"]
    assert shell("sync", "--dry-run", "--no-json", "--delete", "--max-delete", "1", "src", "out") == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        f"delete file://{shell.home}/out/old (extraneous, 2.0 KiB)",
        COST_OF_NOTHING,
        (
            "Dry run: 1 to copy, 0 to skip, 0 to refuse, 1 to delete; 1 B to copy, 2.0 KiB to delete. "
            "Nothing was provisioned or written."
        ),
        "The selection ended at --max-bytes: what comes after it in the order of keys was not selected.",
    ]
    assert shell("sync", "--dry-run", "--json", "--delete", "--max-delete", "0", "src", "out") == 1
    *_, told, _cost, totals = map(json.loads, capsys.readouterr().out.splitlines())
    assert told == {
        "event": "decision", "action": "delete", "reason": "extraneous", "source": "",
        "destination": f"file://{shell.home}/out/old", "size": 2048, "destination_version": "w",
    }  # fmt: skip
    assert (totals["delete"], totals["bytes_deleted"], totals["stopped_at"]) == (1, 2048, "max_bytes")
    assert "1 of 1 object has no" in totals["refused"]


def test_a_dry_run_decides_and_does_nothing(shell: Shell, capsys: Captured) -> None:
    shell.client.decisions = [
        Decision(Action.COPY, NEW, "in/a", "new"),
        Decision(Action.SKIP, NEW, "in/b", "same"),
    ]
    assert shell("sync", "--dry-run", "--no-json", "src", "out") == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        f"copy   file://{shell.home}/src/a -> file://{shell.home}/out/in/a (new, 1 B)",
        f"skip   file://{shell.home}/src/a -> file://{shell.home}/out/in/b (same, 1 B)",
        COST_OF_NOTHING,
        "Dry run: 1 to copy, 1 to skip, 0 to refuse, 0 to delete; 1 B to copy. Nothing was provisioned or written.",
    ]
    assert err.startswith("Plan: single")
    assert shell.client.events == []


def test_a_dry_run_of_what_cannot_be_copied_fails(shell: Shell) -> None:
    shell.client.decisions = [Decision(Action.REFUSE, NEW, "in/a", "the key is too long")]
    assert shell("sync", "--dry-run", "src", "out") == 1


def test_failed_objects_are_exit_code_1_and_named(shell: Shell, capsys: Captured) -> None:
    shell.client.steps = [RUNNING, FAILED]
    assert shell("cp", "-r", "--no-json", "src", "out") == 1
    assert shell.client.events == CARRIED_OUT
    out, err = capsys.readouterr()
    assert "Failed: 0 copied, 0 skipped, 1 failed" in out
    assert "failed a: no" in err
    assert "Error: 1 of 1 object did not arrive" in err


def test_a_dataplane_that_does_not_start_is_exit_code_3(shell: Shell, capsys: Captured) -> None:
    shell.client.provisions = ProvisionFailed("no port is free")
    assert shell("cp", "-r", "src", "out") == 3
    assert "no port is free" in capsys.readouterr().err


@pytest.mark.parametrize("steps", [[RUNNING], [KeyboardInterrupt()]])
def test_a_head_that_falls_silent_is_exit_code_3_and_torn_down(
    shell: Shell, capsys: Captured, steps: list[Step]
) -> None:
    shell.client.steps = [*steps, GatewayUnreachable("no answer", why="reset", next_step="Check it.")]
    assert shell("cp", "-r", "src", "out") == 3
    assert shell.client.events[-1] == "deprovision dp-new"
    [prepared] = shell.client.prepared
    err = capsys.readouterr().err
    assert "no answer: reset. " in err
    assert f"--resume {prepared.spec.transfer_id}" in err


def test_an_error_of_the_system_is_exit_code_3(shell: Shell, capsys: Captured) -> None:
    shell.client.provisions = PermissionError(13, "Permission denied", "/secret")
    assert shell("cp", "-r", "--json", "src", "out") == 3
    out, err = capsys.readouterr()
    assert err == "Error: Permission denied [/secret]\n"
    assert json.loads(out.splitlines()[-1])["what"] == "Permission denied"


def test_ctrl_c_cancels_tears_down_and_says_so(shell: Shell, capsys: Captured) -> None:
    shell.client.steps = [RUNNING, KeyboardInterrupt(), RUNNING, CANCELLED]
    assert shell("cp", "-r", "--no-json", "src", "out") == 4
    assert shell.client.events == ["provision", "submit", "cancel", "deprovision dp-new"]
    out, err = capsys.readouterr()
    assert "Cancelling" in err
    assert "Cancelled: 0 copied" in out
    assert "Error: the transfer was cancelled" in err
    assert "--compare exact" in err
    assert "skyplane sync" in err


def test_a_cancelled_sync_is_simply_repeated(shell: Shell, capsys: Captured) -> None:
    shell.client.steps = [KeyboardInterrupt(), CANCELLED]
    assert shell("sync", "src", "out") == 4
    err = capsys.readouterr().err
    assert "Run the same command again: it copies only what is missing." in err


def test_ctrl_c_when_all_has_arrived_is_no_failure(shell: Shell) -> None:
    shell.client.steps = [KeyboardInterrupt(), DONE]
    assert shell("cp", "-r", "src", "out") == 0


@pytest.mark.parametrize("again", [KeyboardInterrupt(), TimeoutError()])
def test_a_cancel_that_is_not_waited_for_still_tears_down(shell: Shell, capsys: Captured, again: BaseException) -> None:
    shell.client.steps = [KeyboardInterrupt(), again]
    assert shell("cp", "-r", "src", "out") == 4
    assert shell.client.events[-1] == "deprovision dp-new"
    err = capsys.readouterr().err
    assert "not all open uploads" in err
    assert "--compare exact" in err


def test_ctrl_c_while_provisioning(shell: Shell, capsys: Captured) -> None:
    shell.client.provisions = KeyboardInterrupt()
    assert shell("cp", "-r", "src", "out") == 4
    assert shell.client.events == ["provision", "deprovision dp-new"]
    assert "cancelled" in capsys.readouterr().err


def test_ctrl_c_while_tearing_down_names_what_may_be_left(shell: Shell, capsys: Captured) -> None:
    shell.client.deprovisions = KeyboardInterrupt()
    assert shell("cp", "-r", "src", "out") == 4
    assert "skyplane deprovision" in capsys.readouterr().err
    shell.client.deprovisions = None
    assert shell("deprovision", "--no-json") == 0
    assert capsys.readouterr().out == "dp-new: stopped\n"


def test_sigterm_is_ctrl_c(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("skyplane_core.cli.show.JsonShow.progress", killed)
    before = signal.getsignal(signal.SIGTERM)
    assert shell("cp", "-r", "--json", "src", "out") == 4
    assert shell.client.events[-1] == "deprovision dp-new"
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_output_that_nobody_reads_cancels(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    redirected: list[int] = []
    monkeypatch.setattr("skyplane_core.cli.program.os.dup2", lambda _to, what: redirected.append(what))
    shell.client.steps = [RUNNING, BrokenPipeError()]
    assert shell("cp", "-r", "src", "out") == 4
    assert shell.client.events == CARRIED_OUT
    assert len(redirected) == 1


def test_a_terminal_gets_text_and_a_bar(shell: Shell, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert shell("cp", "-r", "src", "out") == 0
    assert capsys.readouterr().out == "Done: 1 copied, 0 skipped, 0 failed; 0 B\n"


def test_signals_are_the_main_threads_alone(shell: Shell) -> None:
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(shell, "cp", "-r", "src", "out").result() == 0


def test_the_receipt_is_written(shell: Shell) -> None:
    shell.client.lines = [LINE]
    assert shell("cp", "-r", "src", "out", "--receipt", "receipt.jsonl") == 0
    totals, line = Path("receipt.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(totals)["totals"]["objects_copied"] == 1
    assert json.loads(line)["destination_key"] == "in/a"


@pytest.mark.parametrize(("state", "code"), [(TransferState.DONE, 0), (TransferState.FAILED, 1)])
def test_the_report_is_written_whatever_became_of_the_transfer(shell: Shell, state: TransferState, code: int) -> None:
    shell.client.steps = [Progress("t1", state, objects_copied=1)]
    assert shell("cp", "-r", "src", "out", "--report", "report.html") == code
    assert f'<span class="state {state.value}">' in Path("report.html").read_text(encoding="utf-8")


def test_why_a_transfer_failed_matters_more_than_its_missing_receipt(shell: Shell, capsys: Captured) -> None:
    shell.client.lines = ObjectNotFound("no receipt")
    shell.client.steps = [FAILED]
    assert shell("cp", "-r", "src", "out", "--receipt", "r") == 1
    err = capsys.readouterr().err
    assert "The receipt could not be read: no receipt" in err
    assert "did not arrive" in err


def test_a_receipt_that_is_missing_after_success_is_an_error(shell: Shell) -> None:
    shell.client.lines = ObjectNotFound("no receipt")
    assert shell("cp", "-r", "src", "out", "--receipt", "r") == 3


def test_versions_and_help_are_no_errors(shell: Shell, capsys: Captured) -> None:
    assert shell("--version") == 0
    assert shell("cp", "--help") == 0
    assert "Exit codes" not in capsys.readouterr().err


@pytest.mark.parametrize(("state", "code"), [(TransferState.DONE, 0), (TransferState.FAILED, 1)])
def test_a_report_that_cannot_be_written_changes_nothing_of_how_the_transfer_ended(
    shell: Shell, capsys: Captured, state: TransferState, code: int
) -> None:
    shell.client.steps = [DONE if state is TransferState.DONE else FAILED]
    (shell.home / "report.html").symlink_to("/dev/full")
    assert shell("cp", "-r", "src", "out", "--report", "report.html") == code
    assert "The report could not be written [report.html]: No space left on device." in capsys.readouterr().err


def test_gateways_that_cannot_be_noted_are_stopped(
    shell: Shell, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted = shell.home / "full" / "skyplane" / "dataplanes" / "dp-new.json"
    noted.parent.mkdir(parents=True)
    noted.symlink_to("/dev/full")
    monkeypatch.setenv("XDG_STATE_HOME", str(shell.home / "full"))
    assert shell("cp", "-r", "src", "out") == 3
    assert shell.client.events == ["provision", "deprovision dp-new"]
    said = capsys.readouterr().err
    assert f"cannot be noted, and have been stopped [{noted}]: No space left on device." in said
    assert "Free some space there, or let XDG_STATE_HOME name another directory." in said


def test_gateways_that_can_be_noted_in_part_only_are_stopped(
    shell: Shell, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left of a disk takes the first bytes of a note, and says nothing of the others."""
    monkeypatch.setenv("XDG_STATE_HOME", str(shell.home / "state"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        assert shell("cp", "-r", "src", "out") == 3
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert shell.client.events == ["provision", "deprovision dp-new"]
    assert "cannot be noted, and have been stopped" in capsys.readouterr().err
