"""Several destinations of one task: what they may be, what comes of them, and what becomes of them if one fails."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_skyplane.compat import AirflowException
from airflow_provider_skyplane.finished import Finished, outcome
from airflow_provider_skyplane.operators.base import FAILED_XCOM_KEY
from airflow_provider_skyplane.operators.skyplane import SkyplaneOperator, SkyplaneSyncOperator
from airflow_provider_skyplane.planning import total
from airflow_provider_skyplane.several import Several, as_one, joined, separate
from skyplane_core.errors import UsageError
from skyplane_core.spec import Progress, TransferState

COUNTS = [name for name in Progress.__struct_fields__ if name.startswith(("objects_", "bytes_", "wire_"))]
IDS = st.text("0123456789abcdef", min_size=32, max_size=32)
FIELDS = dict(
    transfer_id=IDS,
    started_at=st.floats(0, 1e9),
    error=st.sampled_from(["", "no way there"]),
    credentials_expire_at=st.none() | st.floats(0, 1e9),
    failures=st.lists(st.tuples(st.text(max_size=3), st.text(max_size=3)), max_size=2).map(tuple),
    **{name: st.integers(0, 10**12) for name in COUNTS},
)
PROGRESSES = st.builds(Progress, state=st.sampled_from(TransferState), **FIELDS)
ENDED = st.builds(
    Progress,
    state=st.sampled_from([state for state in TransferState if state.ended]),
    ended_at=st.floats(0, 1e9),
    **FIELDS,
)


@given(st.lists(IDS, min_size=1, max_size=5))
def test_ids_are_joined_and_separated_again(ids: list[str]) -> None:
    assert separate(joined(ids)) == ids


@given(PROGRESSES)
def test_one_transfer_stays_what_it_is(progress: Progress) -> None:
    assert as_one([progress]) is progress


@given(st.lists(PROGRESSES, min_size=2, max_size=5))
def test_several_end_when_all_have_and_well_only_if_all_did(progresses: list[Progress]) -> None:
    merged = as_one(progresses)
    assert isinstance(merged, Several)
    assert merged.each == tuple(progresses)
    assert merged.state.ended == all(one.state.ended for one in progresses)
    assert (merged.state is TransferState.DONE) == all(one.state is TransferState.DONE for one in progresses)
    for name in COUNTS:
        assert getattr(merged, name) == sum(getattr(one, name) for one in progresses)
    running = [one.credentials_expire_at for one in progresses if not one.state.ended]
    assert merged.credentials_expire_at == min((at for at in running if at is not None), default=None)


@given(st.lists(ENDED, min_size=2, max_size=4))
def test_what_a_trigger_tells_is_what_waiting_finds(ended: list[Progress]) -> None:
    merged, uris = as_one(ended), [f"s3://b/{number}/" for number in range(len(ended))]
    event = outcome(merged)
    waited = Finished.of(merged).named(uris)
    told = Finished(**event["finished"]).named(uris)
    assert told.failed == waited.failed == any(Finished.of(one).failed for one in ended)
    assert told.failure_text() == waited.failure_text()
    assert told.summary() == waited.summary()
    for uri, one in zip(uris, ended, strict=True):
        assert (uri in waited.failure_text()) == Finished.of(one).failed


def test_totals_of_plans_know_what_is_not_known() -> None:
    numbers = {"copy": 1, "skip": 2, "refuse": 0, "delete": 0, "bytes": 5, "bytes_deleted": 0, "usd_known": 1.5}
    texts = {"stopped_at": "", "refused": ""}
    one = {**numbers, **texts, "usd": 1.5, "usd_month": 2.0, "unknown": [], "routes": [{"gateways": ["g"]}]}
    other = {**numbers, **texts, "usd": None, "usd_month": 2.0, "unknown": ["egress"], "routes": [{"gateways": ["g"]}]}
    summed = total([one, other])
    assert (summed["copy"], summed["usd"], summed["usd_known"], summed["usd_month"]) == (2, None, 3.0, 4.0)
    assert (summed["unknown"], summed["routes"]) == (["egress"], [{"gateways": ["g"]}])


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "src").mkdir()
    for name in ("a", "b"):
        (tmp_path / "src" / name).write_bytes(name.encode() * 1000)
    return tmp_path


def names(path: Path) -> list[str]:
    return sorted(found.name for found in path.iterdir() if found.is_file())


class TaskInstance:
    try_number, map_index = 1, -1

    def __init__(self) -> None:
        self.xcoms: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = value


@pytest.mark.parametrize("gateways", [1, 2, 3])
def test_all_get_everything_at_once_and_each_has_its_own_numbers(place: Path, gateways: int) -> None:
    (place / "two").mkdir()
    (place / "two" / "b").write_bytes(b"b" * 1000)
    uris = [f"file://{place}/{name}/" for name in ("one", "two", "three")]
    operator = SkyplaneSyncOperator(
        task_id="t",
        source=f"file://{place}/src/",
        destination=[uris[0], {"uri": uris[1]}, uris[2]],
        compare="size",
        gateways=gateways,
    )
    told = operator.execute({})
    assert (told["objects_copied"], told["objects_skipped"], told["bytes_copied"]) == (5, 1, 5000)
    assert [one["destination"] for one in told["destinations"]] == uris
    assert [one["objects_copied"] for one in told["destinations"]] == [2, 1, 2]
    assert len({one["transfer_id"] for one in told["destinations"]}) == 3
    for uri, one in zip(uris, told["destinations"], strict=True):
        assert one["receipt"].startswith(f"{uri}.skyplane/{one['transfer_id']}/")
    assert [names(place / name) for name in ("one", "two", "three")] == [["a", "b"]] * 3


def test_one_that_fails_is_named_and_the_others_are_finished(place: Path) -> None:
    # A directory stands where an object has to go.
    (place / "bad" / "a").mkdir(parents=True)
    uris = [f"file://{place}/{name}/" for name in ("bad", "good")]
    operator = SkyplaneOperator(task_id="t", source=f"file://{place}/src/", destination=uris, recursive=True)
    ti = TaskInstance()
    with pytest.raises(AirflowException) as caught:
        operator.execute({"ti": ti})
    text = str(caught.value)
    assert text.startswith(f"1 of 2 destinations failed. {uris[0]}: 1 of 2 objects did not arrive. First causes: a: ")
    assert uris[1] not in text
    assert names(place / "good") == ["a", "b"]
    left = ti.xcoms[FAILED_XCOM_KEY]["destinations"]
    assert [one["objects_copied"] for one in left] == [1, 2]
    assert "failures" in left[0]
    assert "failures" not in left[1]


def test_a_list_of_one_has_the_same_form(place: Path) -> None:
    uri = f"file://{place}/out/"
    told = SkyplaneOperator(task_id="t", source=f"file://{place}/src/", destination=[uri], recursive=True).execute({})
    (only,) = told["destinations"]
    assert only["destination"] == uri
    assert {**only, "destinations": [only]} == {**told, "destination": uri}


def test_receipts_of_several_go_to_one_place(place: Path) -> None:
    operator = SkyplaneOperator(
        task_id="t",
        source=f"file://{place}/src/a",
        destination=[f"file://{place}/one/", f"file://{place}/two/"],
        receipt_url=f"file://{place}/receipts/",
    )
    told = operator.execute({})
    assert names(place / "receipts") == sorted(f"{one['transfer_id']}.jsonl" for one in told["destinations"])
    assert all(one["receipt"].endswith(f"receipts/{one['transfer_id']}.jsonl") for one in told["destinations"])


def test_paths_that_lead_to_one_directory_are_refused_before_anything_starts(place: Path) -> None:
    (place / "out").mkdir()
    (place / "link").symlink_to(place / "out")
    uris = [f"file://{place}/out/x/", f"file://{place}/link/x/"]
    operator = SkyplaneOperator(task_id="t", source=f"file://{place}/src/", destination=uris, recursive=True)
    with pytest.raises(AirflowException, match="the same destination twice"):
        operator.execute({})
    operator.destination = [f"file://{place}/out/", f"file://{place}/link/x/"]
    with pytest.raises(AirflowException, match="one destination lies inside another"):
        operator.execute({})
    assert list((place / "out").iterdir()) == []


def test_what_a_destination_says_goes_before_what_is_said_for_all() -> None:
    operator = SkyplaneOperator(
        task_id="t",
        source="s3://src/a/",
        destination=[
            "s3://one/a/",
            {
                "uri": "s3://two/a/",
                "conn_id": "aws_two",
                "options": {"encryption": "AES256"},
                "attribute_rules": {"storage_class": "GLACIER"},
            },
        ],
        destination_conn_id="aws_one",
        destination_options={"requester_pays": True},
        attribute_rules={"storage_class": "STANDARD_IA", "metadata": {"team": "a"}},
        recursive=True,
    )
    requests = operator._request().each
    one, two = (request.options.attributes for request in requests)
    assert (one.storage_class, two.storage_class) == ("STANDARD_IA", "GLACIER")
    assert one.metadata == two.metadata == {"team": "a"}
    asked: list[Any] = []
    operator.hook.place = lambda uri, conn_id, **how: asked.append((uri, conn_id, how["options"]))  # type: ignore[method-assign, return-value, assignment]
    operator._place = lambda end: operator.hook.place(end.uri, end.conn_id, options=end.options)  # type: ignore[method-assign]
    for request in requests:
        request.destination()
    assert asked == [
        ("s3://one/a/", "aws_one", {"requester_pays": True}),
        ("s3://two/a/", "aws_two", {"requester_pays": True, "encryption": "AES256"}),
    ]


def test_a_summary_is_small_whatever_was_moved() -> None:
    failed = Progress(
        "f" * 32,
        TransferState.FAILED,
        objects_failed=10**6,
        failures=tuple((f"key{number}", "why") for number in range(100)),
    )
    several = Finished.of(as_one([failed] * 3)).named(["s3://a/", "s3://b/", "s3://c/"])
    assert len(str(several.summary())) < 5000
    assert len(several.failure_text()) < 2000
    assert dataclasses.asdict(several)["destinations"][2]["destination"] == "s3://c/"


def test_operators_are_refused_when_destinations_meet_at_run_time() -> None:
    operator = SkyplaneOperator(
        task_id="t", source="s3://src/a/", destination=["s3://b/{{ ds }}/", "s3://b/x/"], recursive=True
    )
    operator.destination = ["s3://b/x/", "s3://b/x/"]
    with pytest.raises(UsageError, match="the same destination twice"):
        operator._request()
