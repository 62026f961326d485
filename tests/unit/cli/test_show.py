import io
import json

import msgspec
import pytest
from rich.console import Console
from rich.progress import Task, TaskID

from skyplane_core.cli.bar import BarShow, SpeedColumn, describe
from skyplane_core.cli.show import JsonShow, Show, TextShow
from skyplane_core.diff import Action, Decision
from skyplane_core.dry_run import Totals
from skyplane_core.errors import ProvisionFailed, StoreUnavailable
from skyplane_core.model import Compression, ObjectInfo, Shrinkage, StoreConfig
from skyplane_core.planner.plan import Site, plan
from skyplane_core.spec import (
    Destination,
    KeyMapping,
    MappingKind,
    Progress,
    Selection,
    TransferOptions,
    TransferSpec,
    TransferState,
)

SPEC = TransferSpec(
    "t1",
    StoreConfig("local", "/src"),
    Selection("", tree=True),
    (Destination(StoreConfig("gcs", "dst"), KeyMapping(MappingKind.PREFIX, "", "in")),),
    TransferOptions(),
    "in/.skyplane/t1/",
    0.0,
)
NEW = Decision(Action.COPY, ObjectInfo("a\x1b", 2048, "v"), "in/a\x1b", "new")
DONE = Progress("t1", TransferState.DONE, 2, 1, 1, 1, 0, 2048, 2048, 2048, 0, True, 10.0, 12.0, receipt="gs://dst/r")
COMPRESSED = msgspec.structs.replace(
    DONE, shrinkage=Shrinkage(Compression.AUTO, dense_bytes=1024, sample_bytes=100, sample_bytes_after=97)
)
FAILED = Progress("t1", TransferState.FAILED, objects_selected=1, objects_failed=1, failures=(("k\n", "no\x1b"),))


def everything(show: Show) -> None:
    show.plan(plan(SPEC, [Site("g1")]))
    show.decision(SPEC, NEW)
    show.counted(Totals(copy=1, bytes=2048))
    with show.watching():
        show.progress(FAILED)
        show.progress(FAILED)
    show.result(DONE)
    show.result(FAILED)
    show.note("on the way")
    show.item("dataplane", {"id": "d1"}, "d1: gone")
    show.error(StoreUnavailable("no answer", where="gs://dst", next_step="Try again."))


def test_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    everything(JsonShow())
    out, err = capsys.readouterr()
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["event"] for line in lines] == [
        "plan", "decision", "dry-run", "progress", "result", "result", "note", "dataplane", "error",
    ]  # fmt: skip
    assert lines[1] == {
        "event": "decision",
        "action": "copy",
        "reason": "new",
        "source": "file:///src/a\x1b",
        "destination": "gs://dst/in/a\x1b",
        "size": 2048,
        "source_version": "v",
    }
    assert lines[2] == {
        "event": "dry-run", "copy": 1, "skip": 0, "refuse": 0, "delete": 0, "bytes": 2048, "bytes_deleted": 0,
        "stopped_at": "", "refused": "",
    }  # fmt: skip
    assert lines[4]["progress"]["state"] == "done"
    assert (lines[-1]["kind"], lines[-1]["exit_code"]) == ("StoreUnavailable", 3)
    assert err == "on the way\nError: no answer [gs://dst]. Try again.\n"


def said_in_json(capsys: pytest.CaptureFixture[str]) -> list[int]:
    return [json.loads(line)["progress"].get("bytes_acked", 0) for line in capsys.readouterr().out.splitlines()]


def test_json_tells_progress_every_ten_seconds_and_in_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    show = JsonShow(clock=iter((5.0, 5.2, 14.9, 15.0, 24.0, 26.0, 27.0)).__next__)
    with show.watching():
        for moved in range(1, 8):
            show.progress(Progress("t", TransferState.RUNNING, bytes_acked=moved))
        assert said_in_json(capsys) == [1, 4, 6]
    assert said_in_json(capsys) == [7]


def test_json_does_not_repeat_itself(capsys: pytest.CaptureFixture[str]) -> None:
    show = JsonShow(clock=iter(range(0, 100, 20)).__next__)
    with show.watching():
        for moved in (1, 1, 2, 2):
            show.progress(Progress("t", TransferState.RUNNING, bytes_acked=moved))
    assert said_in_json(capsys) == [1, 2]


@pytest.mark.parametrize("how", [KeyboardInterrupt(), ProvisionFailed("lost")])
def test_json_tells_how_it_stood_when_it_was_broken_off(capsys: pytest.CaptureFixture[str], how: BaseException) -> None:
    show = JsonShow(clock=lambda: 0.0)
    with pytest.raises(type(how)), show.watching():
        show.progress(Progress("t", TransferState.RUNNING, bytes_acked=1))
        show.progress(Progress("t", TransferState.RUNNING, bytes_acked=2))
        raise how
    assert said_in_json(capsys) == [1, 2]


def test_text_is_for_people_and_for_no_terminal_to_obey(capsys: pytest.CaptureFixture[str]) -> None:
    everything(TextShow())
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "copy   file:///src/a\\x1b -> gs://dst/in/a\\x1b (new, 2.0 KiB)",
        "Dry run: 1 to copy, 0 to skip, 0 to refuse, 0 to delete; 2.0 KiB to copy. Nothing was provisioned or written.",
        "Done: 1 copied, 1 skipped, 0 failed; 2.0 KiB in 2.0 s (1.0 KiB/s)",
        "Receipt: gs://dst/r",
        "Failed: 0 copied, 0 skipped, 1 failed; 0 B",
        "d1: gone",
    ]
    assert err.splitlines()[0] == "Plan: single, 1 gateway"
    assert err.splitlines()[-3:] == [
        "failed k\\n: no\\x1b",
        "on the way",
        "Error: no answer [gs://dst]. Try again.",
    ]


def test_the_result_says_what_was_compressed_and_why_not(capsys: pytest.CaptureFixture[str]) -> None:
    TextShow().result(COMPRESSED)
    said = "Compression: auto: 1.0 KiB sent as they are (a sample shrank to 0.97 of its size)"
    assert said in capsys.readouterr().out.splitlines()
    JsonShow().result(COMPRESSED)
    assert json.loads(capsys.readouterr().out)["progress"]["shrinkage"] == {
        "mode": "auto",
        "dense_bytes": 1024,
        "sample_bytes": 100,
        "sample_bytes_after": 97,
    }


def test_failures_that_are_not_listed_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    failures = tuple((f"k{number}", "no") for number in range(20))
    TextShow().result(Progress("t", TransferState.FAILED, objects_failed=523, failures=failures))
    assert capsys.readouterr().err.splitlines()[-2:] == ["failed k19: no", "... and 503 more"]
    TextShow().result(Progress("t", TransferState.FAILED, objects_failed=20, failures=failures))
    assert capsys.readouterr().err.splitlines()[-1] == "failed k19: no"


def test_a_cause_of_several_lines_is_readable_and_cannot_pose_as_our_own_words(
    capsys: pytest.CaptureFixture[str],
) -> None:
    error = ProvisionFailed("it died", why="Traceback:\nError: \x1b[2Jodd\r\n", next_step="See the log.")
    TextShow().error(error)
    assert capsys.readouterr().err.splitlines() == [
        "Error: it died: Traceback:",
        "  Error: \\x1b[2Jodd\\r",
        "  . See the log.",
    ]
    JsonShow().error(error)
    out, err = capsys.readouterr()
    assert json.loads(out)["why"] == error.why
    assert err.count("\n") == 3


@pytest.mark.parametrize(("speed", "text"), [(None, ""), (8.5 * 1024, "8.5 KiB/s"), (3 << 30, "3.0 GiB/s")])
def test_the_bar_has_one_kind_of_unit(speed: float | None, text: str) -> None:
    task = Task(TaskID(0), "", 1, 0, lambda: 0.0, finished_speed=speed)
    assert SpeedColumn().render(task).plain == text


def test_without_a_terminal_a_line_is_said_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    show = TextShow(clock=iter((0.0, 29.0, 30.0, 59.0, 61.0)).__next__)
    for moved in (0, 1, 3, 4, 6):
        show.progress(
            Progress("t", TransferState.RUNNING, bytes_acked=moved << 20, bytes_selected=6 << 20, listing_done=True)
        )
    assert [line[:26] for line in capsys.readouterr().err.splitlines()] == [
        "50%: 3.0 MiB of 6.0 MiB, 1",
        "100%: 6.0 MiB of 6.0 MiB, ",
    ]


def test_a_terminal_has_a_bar() -> None:
    screen = io.StringIO()
    show = BarShow(Console(file=screen, force_terminal=True, width=120))
    show.progress(DONE)
    with show.watching():
        show.progress(FAILED)
        show.progress(DONE)
    assert "2/2 objects" in screen.getvalue()


@pytest.mark.parametrize(
    ("progress", "text"),
    [
        (Progress("t", TransferState.RUNNING, objects_selected=5, objects_copied=2), "2/5+, listing objects"),
        (Progress("t", TransferState.RUNNING, objects_selected=5, objects_skipped=1, listing_done=True), "1/6 objects"),
        (FAILED, "1/1+, listing objects, 1 failed"),
        (
            Progress(
                "t", TransferState.RUNNING, objects_selected=2, objects_copied=2, listing_done=True, objects_deleted=3
            ),
            "2/2 objects, 3 deleted",
        ),
    ],
)
def test_the_words_before_the_bar(progress: Progress, text: str) -> None:
    assert describe(progress) == text


def test_what_was_deleted_and_what_was_not_selected_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    TextShow().result(msgspec.structs.replace(DONE, objects_deleted=3, stopped_at="max_objects"))
    out = capsys.readouterr().out
    assert "Done: 1 copied, 1 skipped, 0 failed, 3 deleted; 2.0 KiB" in out
    assert "The selection ended at --max-objects" in out


def test_what_the_store_copied_and_what_it_refused_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    moved = msgspec.structs.replace(DONE, objects_server_side=1, bytes_server_side=2048)
    TextShow().result(moved)
    assert "Copied by the store itself: 1 object, 2.0 KiB" in capsys.readouterr().out
    TextShow().result(msgspec.structs.replace(DONE, server_side_refused="access denied\x1b"))
    assert "The store does not copy by itself: access denied" in capsys.readouterr().out
    TextShow().result(DONE)
    assert "itself" not in capsys.readouterr().out
