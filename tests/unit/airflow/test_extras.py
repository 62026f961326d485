"""What a task leaves besides its return value: metrics, events of its outlets, a report. None of it fails a task."""

from __future__ import annotations

import logging
import socket
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from airflow.providers.common.compat.sdk import Asset, Stats
from statsd import StatsClient

from airflow_provider_skyplane import asset_events, metrics
from airflow_provider_skyplane.compat import web_server_is_flask
from airflow_provider_skyplane.extras import Extras
from airflow_provider_skyplane.finished import Finished, outcome
from airflow_provider_skyplane.links.report import (
    LINK_XCOM_KEY,
    REPORT_XCOM_KEY,
    SkyplaneReportLink,
    page_path,
    push_link,
)
from airflow_provider_skyplane.plugins.kept import page_of
from airflow_provider_skyplane.reports import reports_of
from airflow_provider_skyplane.several import as_one
from skyplane_core.history import History, Sample
from skyplane_core.report.value import decode
from skyplane_core.spec import Progress, TransferState
from tests.servers.airflow_logging import a_logger_heard_by

PROGRESS = Progress(
    "t1",
    TransferState.DONE,
    objects_copied=2,
    objects_skipped=1,
    bytes_copied=30,
    started_at=10.0,
    ended_at=11.5,
    receipt="gs://dst/r",
    history=History("s3://src/", ("gs://dst/",), (Sample(0, 0, 0), Sample(1.5, 30, 3))),
)
DONE = Finished.of(PROGRESS)
FAILED = Finished.of(msgspec.structs.replace(PROGRESS, state=TransferState.FAILED, error="no space"))
LOG = logging.getLogger("a-task")


class TaskInstance:
    dag_id, task_id, run_id, map_index, try_number = "d", "t", "r", -1, 1

    def __init__(self) -> None:
        self.xcoms: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = value


class Events(dict[Any, Any]):
    """Makes an accessor when one is asked for, as Airflow's does: not every Airflow's assets can be hashed."""

    def __getitem__(self, asset: Any) -> Any:
        return self.setdefault(asset.uri, SimpleNamespace(extra={}))


@pytest.fixture
def statsd(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A listener on loopback, and the client that Airflow uses, which sends to it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.settimeout(5)
        port = listener.getsockname()[1]
        client = StatsClient("127.0.0.1", port, "airflow")
        monkeypatch.setattr(Stats, "incr", lambda name, count, tags: client.incr(name, count))
        monkeypatch.setattr(Stats, "timing", lambda name, delta, tags: client.timing(name, delta))
        yield listener
        client.close()


def heard(listener: socket.socket, count: int) -> set[str]:
    return {listener.recv(2000).decode() for _ in range(count)}


def test_metrics_arrive_at_a_statsd(statsd: socket.socket) -> None:
    metrics.count(DONE, {"dag_id": "d", "task_id": "t"})
    assert heard(statsd, 7) == {
        "airflow.skyplane.transfer.successes:1|c",
        "airflow.skyplane.transfer.bytes:30|c",
        "airflow.skyplane.transfer.objects_copied:2|c",
        "airflow.skyplane.transfer.objects_skipped:1|c",
        "airflow.skyplane.transfer.objects_failed:0|c",
        "airflow.skyplane.transfer.objects_deleted:0|c",
        "airflow.skyplane.transfer.duration:1500.000000|ms",
    }
    metrics.count(FAILED, {})
    assert "airflow.skyplane.transfer.failures:1|c" in heard(statsd, 7)


def test_events_of_outlets_carry_counts_beside_what_others_say() -> None:
    here, there, events = Asset("gs://dst/a"), Asset("gs://dst/b"), Events()
    events[here].extra["rows"] = 7
    asset_events.tell({"outlet_events": events}, [here, there, "no asset"], DONE)  # type: ignore[typeddict-item]
    told = {
        "transfer_id": "t1",
        "objects_copied": 2,
        "objects_skipped": 1,
        "objects_deleted": 0,
        "bytes_copied": 30,
        "seconds": 1.5,
        "receipt": "gs://dst/r",
    }
    assert events[here].extra == {"rows": 7, "skyplane": told}
    assert events[there].extra == {"skyplane": told}
    assert len(events) == 2


@pytest.mark.skipif(not hasattr(Asset, "ref"), reason="Airflow 2 has no references to assets")
def test_an_outlet_that_names_an_asset_made_elsewhere_has_an_event_too() -> None:
    named, events = Asset.ref(uri="gs://dst/a"), Events()
    asset_events.tell({"outlet_events": events}, [named], DONE)  # type: ignore[typeddict-item]
    assert events[named].extra["skyplane"]["transfer_id"] == "t1"


def test_a_transfer_that_failed_leaves_a_report_and_no_counts_for_whoever_waits_for_its_outlets() -> None:
    ti, events = TaskInstance(), Events()
    Extras({"ti": ti, "outlet_events": events}, [Asset("gs://dst/a")], LOG).leave(FAILED)  # type: ignore[typeddict-item]
    assert events == {}
    (report,) = decode(ti.xcoms[REPORT_XCOM_KEY])
    assert (report.progress.error, report.run) == ("no space", "d.t, run r, try 1")


def test_a_report_is_kept_and_becomes_a_page() -> None:
    ti, saved = TaskInstance(), dict[str, bytes]()
    Extras({"ti": ti}, [], LOG, saved.__setitem__).leave(DONE)  # type: ignore[typeddict-item]
    status, html = page_of(ti.xcoms[REPORT_XCOM_KEY])
    assert status == 200
    assert "s3://src/" in html
    assert saved == {"t1": html.encode()}
    none = page_of(None)
    assert none.status == 404
    assert "This task has left no report" in none.html
    assert "before it could start one" in none.html
    assert page_of({"not": "ours"}).status == 422


def test_nothing_of_it_fails_a_task(caplog: pytest.LogCaptureFixture) -> None:
    log = a_logger_heard_by(caplog)

    class Broken(TaskInstance):
        def xcom_push(self, key: str, value: Any) -> None:
            raise ConnectionError("no database")

    def full(_name: str, _page: bytes) -> None:
        raise OSError("no space")

    events = Events()
    asset = Asset("gs://dst/a")
    push_link({"ti": Broken()}, log)  # type: ignore[typeddict-item]
    Extras({"ti": Broken(), "outlet_events": events}, [asset], log, full).leave(DONE)  # type: ignore[typeddict-item]
    assert [message for message in caplog.messages if "could not" in message] == [
        "The link to the report could not be left: ConnectionError: no database",
        "A transfer's report could not be left: ConnectionError: no database",
        "A transfer's report could not be written: OSError: no space",
    ]
    assert events[asset].extra["skyplane"]["transfer_id"] == "t1"


def test_several_destinations_have_a_report_each_and_the_event_survives_as_json() -> None:
    both = outcome(as_one([PROGRESS, msgspec.structs.replace(PROGRESS, transfer_id="t2")]))["finished"]
    finished = Finished(**msgspec.json.decode(msgspec.json.encode(both)))
    assert [report.progress.transfer_id for report in reports_of(finished, "")] == ["t1", "t2"]
    assert "course" not in str(finished.summary())


def test_the_link_leads_to_the_page_of_this_very_task_instance(monkeypatch: pytest.MonkeyPatch) -> None:
    section = "WEBSERVER" if web_server_is_flask() else "API"
    monkeypatch.setenv(f"AIRFLOW__{section}__BASE_URL", "https://airflow.example/team/")
    ti = TaskInstance()
    ti.run_id, ti.map_index = "manual__2025-01-01T00:00:00+00:00", 3
    push_link({"ti": ti}, LOG)  # type: ignore[typeddict-item]
    link = SkyplaneReportLink()
    url = "https://airflow.example/team/skyplane/report/d/manual__2025-01-01T00%3A00%3A00%2B00%3A00/t/3"
    assert ti.xcoms == {LINK_XCOM_KEY: url}
    assert (link.xcom_key, link.get_link(None, ti_key=ti)) == (LINK_XCOM_KEY, url)
    assert page_path("a/b", "r", "g.t", None) == "/report/a%2Fb/r/g.t/-1"
    push_link({}, LOG)  # type: ignore[typeddict-item]
