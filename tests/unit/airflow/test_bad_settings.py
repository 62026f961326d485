"""Settings that cannot work fail a DAG's parse, or the task before a gateway is started or anything written."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_skyplane.hooks.skyplane import SkyplaneHook
from airflow_provider_skyplane.operators.skyplane import SkyplaneOperator
from airflow_provider_skyplane.transfers.s3_to_gcs import SkyplaneS3ToGCSOperator
from skyplane_core.errors import UsageError
from skyplane_core.provision.local import LocalProvisioner

SECRET = "canary-control-secret-0123456789abcdef"
AT_PARSE: list[tuple[dict[str, Any], str]] = [
    ({"gateways": 0}, "gateways: 0. Expected one of 1, 2, 3"),
    ({"gateways": -1}, "gateways: -1. Expected one of 1, 2, 3"),
    ({"gateways": 4}, "gateways: 4. Expected one of 1, 2, 3"),
    ({"gateways": "two"}, "gateways: 'two'. Expected one of 1, 2, 3"),
    ({"gateways": True}, "gateways: True. Expected one of 1, 2, 3"),
    ({"compression": "zip"}, "compression: 'zip'"),
    ({"poll_interval": 0}, "poll_interval"),
    ({"poll_interval": -1}, "poll_interval"),
    ({"poll_interval": math.nan}, "poll_interval"),
    ({"poll_interval": math.inf}, "poll_interval"),
]
CONNECTIONS: list[tuple[dict[str, Any], str]] = [
    ({"extra": {"gateways": 0}}, "gateways of connection 'skyplane_default' is 0. Expected one of 1, 2, 3"),
    ({"extra": {"gateways": -2}}, "gateways of connection 'skyplane_default' is -2"),
    ({"extra": {"gateways": 4}}, "gateways of connection 'skyplane_default' is 4"),
    ({"extra": {"gateways": "two"}}, "gateways of connection 'skyplane_default' is 'two'"),
    ({"extra": {"gateways": 1.5}}, "gateways of connection 'skyplane_default' is 1.5"),
    ({"password": "short"}, "control secret of connection 'skyplane_default' has fewer than 32"),
]


@pytest.fixture(autouse=True)
def nothing_happens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """No gateway is started, and where the tests may write there is nothing but the source afterwards."""
    asked: list[int] = []
    start = LocalProvisioner.start

    def starting(self: LocalProvisioner, count: int) -> Any:
        asked.append(count)
        return start(self, count)

    monkeypatch.setattr(LocalProvisioner, "start", starting)
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a").write_bytes(b"x")
    yield
    assert asked == []
    assert [path.name for path in tmp_path.rglob("*")] == ["src", "a"]


def general(place: Path, **settings: Any) -> SkyplaneOperator:
    ends = {"source": f"file://{place}/src", "destination": f"file://{place}/out"}
    return SkyplaneOperator(task_id="t", recursive=True, **ends, **settings)


def drop_in(_place: Path, **settings: Any) -> SkyplaneS3ToGCSOperator:
    ends = {"bucket": "src", "dest_gcs": "gs://dst/in/"}
    return SkyplaneS3ToGCSOperator(task_id="t", return_gcs_uris=True, **ends, **settings)


@pytest.mark.parametrize("operator", [general, drop_in])
@pytest.mark.parametrize(("settings", "told"), AT_PARSE, ids=str)
def test_arguments_fail_the_parse(operator: Any, tmp_path: Path, settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError) as refused:
        operator(tmp_path, **settings)
    assert f"Invalid value for {told}" in str(refused.value)


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize("operator", [general, drop_in])
@pytest.mark.parametrize(("connection", "told"), CONNECTIONS, ids=str)
def test_a_connection_fails_the_task_before_it_starts_anything(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, operator: Any, *,
    connection: dict[str, Any], told: str, deferrable: bool,
) -> None:  # fmt: skip
    described = {"conn_type": "skyplane", "password": SECRET, **connection}
    monkeypatch.setenv("AIRFLOW_CONN_SKYPLANE_DEFAULT", json.dumps(described))
    made = operator(tmp_path, deferrable=deferrable, local_gateways_outlive_task=True)
    with pytest.raises(AirflowException) as refused:
        made.execute({})
    assert told in str(refused.value)
    assert SECRET not in str(refused.value)
    working, said = SkyplaneHook().test_connection()
    assert not working
    assert told in said


def test_a_connection_may_say_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    for said, meant in ((2, "2 processes"), ("3", "3 processes"), ("", "1 process"), (None, "1 process")):
        described = {"conn_type": "skyplane", "password": SECRET, "extra": {"gateways": said}}
        monkeypatch.setenv("AIRFLOW_CONN_SKYPLANE_DEFAULT", json.dumps(described))
        assert SkyplaneHook().gateways == int(meant.split()[0])
        working, told = SkyplaneHook().test_connection()
        assert working
        assert f"The connection is complete. Gateways would be {meant} of a task's worker" in told


STORES: list[tuple[dict[str, Any], str]] = [
    ({"source_options": {"requester_pays": True}}, "requester_pays means nothing there"),
    ({"destination_options": {"encryption": "AES256"}}, "encryption means nothing there"),
    ({"source_options": {"bucket": "b"}}, "unknown field"),
    ({"destination_options": {"anonymous": "yes"}}, "Expected bool"),
    ({"attribute_rules": {"unfit": "ignore"}}, "Invalid enum value"),
    ({"attribute_rules": {"labels": True}}, "unknown field"),
    ({"attribute_rules": {"metadata": {"a": 1}}}, "Expected str"),
]


@pytest.mark.parametrize(("settings", "told"), STORES, ids=str)
def test_options_of_stores_and_rules_fail_the_parse(tmp_path: Path, settings: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        general(tmp_path, **settings)


RULES: list[tuple[dict[str, Any], str]] = [
    ({"storage_class": "GLACIER"}, "no place for storage classes"),
    ({"metadata": {"a": "b"}}, "no place for metadata"),
    ({"keep_tags": True}, "objects have no tags"),
]


@pytest.mark.parametrize(("rules", "told"), RULES, ids=str)
def test_rules_that_the_destination_cannot_follow_fail_the_task(
    tmp_path: Path, rules: dict[str, Any], told: str
) -> None:
    with pytest.raises(AirflowException, match=told):
        general(tmp_path, attribute_rules=rules).execute({})
