"""Arguments of the general operators that cannot be right: when a DAG is parsed, and once templates are rendered."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowException, AirflowNotFoundException, AirflowSkipException

from airflow_provider_skyplane.operators.plan import SkyplanePlanOperator
from airflow_provider_skyplane.operators.skyplane import SkyplaneOperator, SkyplaneSyncOperator
from skyplane_core.errors import InvalidURI, UsageError
from skyplane_core.provision.local import LocalProvisioner

ENDS = {"source": "s3://src/a/", "destination": "gs://dst/b/"}
GS, S3 = "gs://dst/b/", "s3://dst/b/"


def to(*destinations: Any, **more: Any) -> dict[str, Any]:
    return {"destination": list(destinations), **more}


AT_PARSE: list[tuple[dict[str, Any], str]] = [
    # What is no end at all.
    ({"source": ""}, "source cannot be used: the URI is empty"),
    ({"source": None}, "source is None, which is no URI"),
    ({"source": Path("/data")}, "source is PosixPath('/data'), which is no URI"),
    ({"source": "gcs://a/b/"}, "source cannot be used: unknown scheme gcs://"),
    ({"destination": "exports/"}, "destination cannot be used: "),
    ({"destination": None}, "Invalid value for destination: None. Expected a URI, or a list"),
    ({"destination": 5}, "Invalid value for destination: 5. Expected a URI, or a list"),
    (to(), "Invalid value for destination: []. Expected a URI, or a list of at least one"),
    (to(GS, "s4://b/"), "destination[1] cannot be used: unknown scheme s4://"),
    (to(GS, None), "Invalid value for destination[1]: None. Expected a URI, or a dict"),
    (to({"conn_id": "x"}), "Invalid value for destination[0]: {'conn_id': 'x'}. Expected a URI, or a dict"),
    (to({"uri": GS, "connection": "x"}), "Invalid value for destination[0]: unknown key 'connection'. Known are uri"),
    (to({"uri": ""}), "destination[0] cannot be used: the URI is empty"),
    # Ends that cannot go together.
    (to(GS, GS), "the same destination twice [gs://dst/b/]"),
    (to(GS, "gs://dst/b"), "the same destination twice [gs://dst/b]"),
    (to(GS, {"uri": GS}), "the same destination twice"),
    (to(GS, "gs://dst/b/c/"), "one destination lies inside another [gs://dst/b/c/ in gs://dst/b/]"),
    (to("gs://dst/b/c/", S3, "gs://dst/"), "one destination lies inside another [gs://dst/b/c/ in gs://dst/]"),
    (to("file:///d/", "file:///d/"), "the same destination twice [file:///d/]"),
    (to(GS, "s3://src/a/"), "source and destination are the same [s3://src/a/]"),
    (to(GS, "s3://src/a/b/"), "the destination lies inside the source [s3://src/a/ -> s3://src/a/b/]"),
    ({"source": "file:///d/", "destination": "file:///d"}, "source and destination are the same"),
    ({"source": "hdfs://n/d", "destination": "hdfs://n/d/"}, "source and destination are the same"),
    (
        {"source": "s3://src/a/f", "mode": "copy", **to(GS, "gs://dst/b/f")},
        "the same destination twice [gs://dst/b/f]",
    ),
    # Connections and options that mean nothing there, or too many things.
    ({"source": "file:///d/", "source_conn_id": "aws_x"}, "source_conn_id is 'aws_x', and source file:///d/ is a file"),
    ({"destination": "file:///d/", "destination_conn_id": "x"}, "destination_conn_id is 'x', and file:///d/ is a file"),
    (to({"uri": "file:///d/", "conn_id": "x"}), "destination[0]['conn_id'] is 'x', and destination[0] file:///d/"),
    (to(GS, S3, destination_conn_id="x"), "destination_conn_id is 'x', and the destinations are of several kinds"),
    (
        {"source_conn_id": "x", "source_options": {"anonymous": True}},
        "source_conn_id is 'x', and the options of source say anonymous",
    ),
    (to(GS, S3, destination_options={"encryption": "AES256"}), "encryption means nothing there [gs://dst/b/]"),
    (to({"uri": GS, "options": {"requester": 1}}), "unknown field"),
    (to({"uri": GS, "attribute_rules": {"labels": 1}}), "unknown field"),
    (to(GS, S3, receipt_url="s3://log/r.jsonl"), "receipt_url: 's3://log/r.jsonl' names one object"),
    # A text that is no number, and texts that Python takes for True, whatever they say.
    ({"poll_interval": "10"}, "Invalid value for poll_interval: '10'. Expected a number of seconds"),
    *(
        ({name: value}, f"Invalid value for {name}: {value!r}. Expected True or False")
        for name in ("delete", "preserve_metadata", "dry_run_only", "deferrable", "durable")
        for value in ("False", "{{ params.really }}")
    ),
    ({"local_gateways_outlive_task": "no"}, "Invalid value for local_gateways_outlive_task: 'no'. Expected True or"),
    ({"recursive": "False", "mode": "copy"}, "Invalid value for recursive: 'False'. Expected True or False"),
    # Nothing, where something was meant.
    ({"source_conn_id": ""}, "source_conn_id is ''"),
    ({"destination_conn_id": " "}, "destination_conn_id is ' '"),
    ({"skyplane_conn_id": ""}, "skyplane_conn_id is ''"),
    ({"receipt_url": ""}, "receipt_url is ''"),
    ({"receipt_path": ""}, "receipt_path is ''"),
    ({"manifest": ""}, "manifest is ''"),
    ({"google_impersonation_chain": ["a", ""]}, "google_impersonation_chain[1] is ''"),
    (to({"uri": GS, "conn_id": ""}), "destination[0]['conn_id'] is ''"),
]

OF_RUNS = {"receipt_url", "receipt_path", "poll_interval", "dry_run_only", "deferrable", "durable"}
OF_RUNS |= {"local_gateways_outlive_task"}


@pytest.mark.parametrize("kind", [SkyplaneSyncOperator, SkyplanePlanOperator])
@pytest.mark.parametrize(("arguments", "told"), AT_PARSE, ids=str)
def test_arguments_fail_the_parse(kind: type[SkyplaneOperator], arguments: dict[str, Any], told: str) -> None:
    if kind is SkyplanePlanOperator and arguments.keys() & OF_RUNS:
        told = "a plan starts nothing"
    mode = {} if kind is SkyplaneSyncOperator and "mode" not in arguments else {"mode": "sync"}
    made = SkyplaneOperator if "mode" in arguments else kind
    with pytest.raises((ValueError, UsageError)) as refused:
        made(**{"task_id": "t", **ENDS, **mode, **arguments})
    assert told in str(refused.value)


PLANS: list[tuple[dict[str, Any], str]] = [
    ({"dry_run_only": True}, "Invalid argument dry_run_only: a plan starts nothing"),
    ({"deferrable": True}, "Invalid argument deferrable: a plan starts nothing"),
    ({"poll_interval": 5}, "Invalid argument poll_interval"),
    ({"receipt_url": "s3://log/"}, "Invalid argument receipt_url"),
    ({"max_usd": -1}, "Invalid value for max_usd: -1"),
    ({"max_usd": float("nan")}, "Invalid value for max_usd"),
    ({"max_usd": "five"}, "Invalid value for max_usd: 'five'"),
    ({"max_usd": 1, "over_budget": "warn"}, "Invalid value for over_budget: 'warn'. Expected one of fail, skip"),
    ({"over_budget": "skip"}, "say how max_usd is held"),
    ({"allow_unknown_prices": True}, "say how max_usd is held"),
    ({"mode": "move"}, "Invalid value for mode"),
]


@pytest.mark.parametrize(("arguments", "told"), PLANS, ids=str)
def test_arguments_of_a_plan_fail_the_parse(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError) as refused:
        SkyplanePlanOperator(**{"task_id": "t", "recursive": True, **ENDS, **arguments})
    assert told in str(refused.value)


MAY_BE_RIGHT: list[dict[str, Any]] = [
    to(GS, "gs://dst/bc/"),
    to(GS, "gs://dst/b/{{ ds }}/"),
    to(S3, {"uri": S3, "conn_id": "another_service"}),
    to(S3, {"uri": S3, "options": {"endpoint_url": "https://minio.example"}}),
    to(GS, {"uri": S3, "conn_id": "aws_x"}, destination_conn_id="gcp_x"),
    to(S3, "file:///d/", destination_conn_id="aws_x"),
    to("file:///d/x/", "file:///d/y/../x/"),
    {"destination": {"uri": S3, "conn_id": "aws_x"}},
    {"source": "{{ params.source }}", "source_conn_id": "{{ params.conn }}"},
    to(GS, S3, receipt_url="s3://log/receipts/"),
]


@pytest.mark.parametrize("arguments", MAY_BE_RIGHT, ids=str)
def test_what_may_be_right_is_not_refused_at_parse(arguments: dict[str, Any]) -> None:
    SkyplaneSyncOperator(**{"task_id": "t", **ENDS, **arguments})


@pytest.fixture
def unstarted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gateways that are started fail the test."""

    def started(_self: LocalProvisioner, _count: int) -> Any:
        raise AssertionError("a gateway was started")

    monkeypatch.setattr(LocalProvisioner, "start", started)


RENDERED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"source": "{{ params.x }}"}, {"x": ""}, "source is ''"),
    ({"source": "{{ params.x }}"}, {"x": None}, "source is 'None'"),
    ({"source": "{{ params.x }}"}, {"x": "s4://b"}, "source cannot be used: unknown scheme s4://"),
    (to(GS, "{{ params.x }}"), {"x": ""}, "destination[1] is ''"),
    (to(GS, "gs://dst/{{ params.x }}"), {"x": "b"}, "the same destination twice"),
    (to({"uri": GS, "conn_id": "{{ params.x }}"}), {"x": ""}, "destination[0]['conn_id'] is ''"),
    ({"destination": "s3://src/{{ params.x }}"}, {"x": "a/b"}, "the destination lies inside the source"),
    ({"source_conn_id": "{{ params.x }}"}, {"x": None}, "source_conn_id is 'None'"),
    ({"receipt_url": "{{ params.x }}"}, {"x": ""}, "receipt_url is ''"),
    ({"include": ["{{ params.x }}"]}, {"x": ""}, "include[0] is ''"),
    ({"manifest": "{{ params.x }}"}, {"x": ""}, "manifest is ''"),
]


@pytest.mark.parametrize(("arguments", "params", "told"), RENDERED, ids=str)
@pytest.mark.usefixtures("unstarted")
def test_what_is_rendered_wrongly_fails_the_task_by_name(
    arguments: dict[str, Any], params: dict[str, Any], told: str
) -> None:
    operator = SkyplaneSyncOperator(**{"task_id": "t", **ENDS, **arguments})
    operator.render_template_fields({"params": params})  # type: ignore[arg-type, typeddict-item]
    with pytest.raises(AirflowException) as refused:
        operator.execute({})
    assert told in str(refused.value)


CONNECTIONS: list[tuple[dict[str, Any], str]] = [
    (
        {"destination_conn_id": "an_aws"},
        "is of type 'aws', and destination gs://dst/b/ needs one of type 'google_cloud_platform'. Name such a connect",
    ),
    ({"source_conn_id": "a_gcp"}, "is of type 'google_cloud_platform', and source s3://src/a/ needs one of type 'aws'"),
    (to(GS, {"uri": S3, "conn_id": "a_gcp"}), "Name such a connection with destination[1]['conn_id']."),
    ({"destination": "az://acc/container/", "destination_conn_id": "an_aws"}, "needs one of type 'wasb'"),
    ({"destination": "hdfs://n/d/", "destination_conn_id": "an_aws"}, "needs one of type 'webhdfs'"),
    (
        {"source_conn_id": "nowhere"},
        "There is no connection 'nowhere', and source s3://src/a/ needs one of type 'aws'. Create it, or name another ",
    ),
    (
        {"destination": "az://acc/container/"},
        "There is no connection 'wasb_default', and destination az://acc/container/ needs one",
    ),
]


@pytest.mark.parametrize("kind", [SkyplaneSyncOperator, SkyplanePlanOperator])
@pytest.mark.parametrize(("arguments", "told"), CONNECTIONS, ids=str)
@pytest.mark.usefixtures("unstarted")
def test_connections_fail_the_task_by_the_argument_that_named_them(
    monkeypatch: pytest.MonkeyPatch, kind: type[SkyplaneOperator], arguments: dict[str, Any], told: str
) -> None:
    aws = {"conn_type": "aws", "login": "k", "password": "s", "extra": {"region_name": "r", "endpoint_url": "http://e"}}
    gcp = {"conn_type": "google_cloud_platform", "extra": {"is_anonymous": True}}
    for name, described in {"AN_AWS": aws, "AWS_DEFAULT": aws, "A_GCP": gcp, "GOOGLE_CLOUD_DEFAULT": gcp}.items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}", json.dumps(described))
    operator = kind(**{"task_id": "t", "mode": "sync", **ENDS, **arguments})
    with pytest.raises(AirflowException) as refused:
        operator.execute({})
    assert told in str(refused.value)
    assert isinstance(refused.value, AirflowNotFoundException) == told.startswith("There is no connection")


def test_a_uri_that_is_refused_is_an_invalid_uri() -> None:
    with pytest.raises(InvalidURI, match="destination cannot be used"):
        SkyplaneOperator(task_id="t", source="s3://a/b", destination="https://c/d")


class TaskInstance:
    def __init__(self) -> None:
        self.xcoms: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = value


BUDGETS: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"max_usd": 2}, {"usd": 3.0, "usd_known": 3.0}, "would cost $3.00, and max_usd is $2.00"),
    ({"max_usd": 2}, {"usd": None, "usd_known": 3.0}, "would cost at least $3.00"),
    ({"max_usd": 5}, {"usd": None, "usd_known": 3.0}, "there is no price for egress. Set allow_unknown_prices=True"),
    ({"max_usd": 5, "allow_unknown_prices": True}, {"usd": None, "usd_known": 3.0}, ""),
    ({"max_usd": "3"}, {"usd": 3.0, "usd_known": 3.0}, ""),
    ({}, {"usd": None, "usd_known": 3.0}, ""),
]


@pytest.mark.parametrize(("arguments", "costs", "told"), BUDGETS, ids=str)
@pytest.mark.parametrize("over_budget", ["fail", "skip"])
def test_a_plan_over_its_budget_fails_or_skips(
    monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any], costs: dict[str, Any], told: str, over_budget: str
) -> None:
    plan = {**costs, "unknown": ["egress"]}
    said = {**arguments, "over_budget": over_budget} if arguments else {}
    operator = SkyplanePlanOperator(**{"task_id": "t", "mode": "sync", **ENDS, **said})
    monkeypatch.setattr(operator, "_dry_run", lambda: plan)
    ti = TaskInstance()
    if not told:
        assert operator.execute({"ti": ti}) == plan
        return
    with pytest.raises(AirflowSkipException if over_budget == "skip" else AirflowException) as refused:
        operator.execute({"ti": ti})
    assert told in str(refused.value)
    assert isinstance(refused.value, AirflowSkipException) == (over_budget == "skip")
    assert ti.xcoms == ({"return_value": plan} if over_budget == "skip" else {})


def test_a_plan_tells_what_a_run_then_does(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    for number in range(3):
        (tmp_path / "src" / f"f{number}").write_bytes(b"x" * 100)
    what = {
        "task_id": "t",
        "source": f"file://{tmp_path}/src/",
        "destination": [f"file://{tmp_path}/one/", f"file://{tmp_path}/two/"],
        "mode": "sync",
        "exclude": "f0",
        "gateways": 2,
    }
    plan = SkyplanePlanOperator(max_usd=0, **what).execute({})
    assert (plan["copy"], plan["bytes"], plan["usd"]) == (4, 400, 0.0)
    assert plan["routes"] == [{"gateways": ["gateway-0", "gateway-1"], "share": 1.0}]
    assert [(one["destination"], one["copy"]) for one in plan["destinations"]] == [
        (uri, 2) for uri in what["destination"]
    ]
    assert not (tmp_path / "one").exists()
    done = SkyplaneOperator(**what).execute({})
    assert (done["objects_copied"], done["bytes_copied"]) == (plan["copy"], plan["bytes"])
    assert SkyplanePlanOperator(**what).execute({})["skip"] == 4


def test_a_templated_budget_that_is_none_fails_before_anything_is_listed() -> None:
    operator = SkyplanePlanOperator(task_id="t", mode="sync", max_usd="{{ params.budget }}", **ENDS)
    operator.render_template_fields({"params": {"budget": "none"}})  # type: ignore[arg-type, typeddict-item]
    with pytest.raises(ValueError, match="Invalid value for max_usd: 'none'"):
        operator.execute({})


def test_what_another_task_says_is_looked_at_when_it_has_said_it() -> None:
    begin = datetime.datetime(2025, 1, 1, tzinfo=datetime.timezone.utc)
    with DAG("d", start_date=begin, schedule=None):
        earlier = SkyplaneSyncOperator(task_id="earlier", **ENDS)
        for number, arguments in enumerate(
            (
                {"source": earlier.output},
                {"destination": earlier.output},
                to(GS, earlier.output),
                {"include": earlier.output},
                {"exclude": [earlier.output]},
                {"manifest": earlier.output},
                {"source_conn_id": earlier.output},
                {"receipt_url": earlier.output},
            )
        ):
            later = SkyplaneSyncOperator(**{"task_id": f"t{number}", **ENDS, **arguments})
            assert later.upstream_task_ids == {"earlier"}


def test_default_args_of_a_run_do_not_trouble_a_plan() -> None:
    begin = datetime.datetime(2025, 1, 1, tzinfo=datetime.timezone.utc)
    with DAG("d", start_date=begin, schedule=None, default_args={"deferrable": True, "source_conn_id": "aws_x"}):
        plan = SkyplanePlanOperator(task_id="t", mode="sync", **ENDS)
    assert (plan.deferrable, plan.source_conn_id) == (False, "aws_x")
