"""A connection says who to be in HDFS and where DataNodes are; the URI which NameNode, the environment the rest."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_skyplane.compat import AirflowException
from airflow_provider_skyplane.hooks.skyplane import SkyplaneHook
from skyplane_core.errors import UsageError
from skyplane_core.locations import Location
from skyplane_core.model import Hadoop


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("HADOOP_CONF_DIR", str(tmp_path))
    monkeypatch.setenv("HADOOP_USER_NAME", "worker")
    monkeypatch.setenv("SKYPLANE_HDFS_DATANODES", "dn1=203.0.113.1,dn2=203.0.113.2")
    (tmp_path / "core-site.xml").write_text(
        "<configuration><property><name>dfs.client.socket-timeout</name><value>5</value></property></configuration>"
    )


def place(monkeypatch: pytest.MonkeyPatch, **fields: Any) -> Any:
    monkeypatch.setenv("AIRFLOW_CONN_HADOOP", json.dumps({"conn_type": "webhdfs", **fields}))
    return SkyplaneHook(None).place("hdfs://nn:8020/data/in", "hadoop", directory=True)


def test_what_a_connection_says_counts_and_the_environment_for_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"datanodes": {"dn2": "198.51.100.2:9866"}, "properties": {"dfs.client.failover.max.attempts": "9"}}
    found = place(monkeypatch, login="alice", host="web.example.org", port=9870, extra=json.dumps(extra))
    assert isinstance(found, Location)
    assert (found.uri, found.store.bucket, found.key) == ("hdfs://nn:8020/data/in/", "/data/in", "")
    assert found.store.hadoop == Hadoop(
        "alice",
        {"dfs.client.socket-timeout": "5", "dfs.client.failover.max.attempts": "9"},
        {"dn1": "203.0.113.1", "dn2": "198.51.100.2:9866"},
    )
    assert place(monkeypatch).store.hadoop.user == "worker"


def test_without_a_connection_the_environment_says_all() -> None:
    found = SkyplaneHook(None).place("hdfs://nn/data", directory=True)
    assert found.store.endpoint_url == "hdfs://nn"
    assert (found.store.hadoop.user, found.store.hadoop.datanodes["dn1"]) == ("worker", "203.0.113.1")


@pytest.mark.parametrize(
    ("extra", "kind", "said"),
    [
        ({"datanodes": ["dn1"]}, AirflowException, "datanodes of connection 'hadoop'"),
        ({"properties": {"dfs.client.x": 1}}, AirflowException, "properties of connection 'hadoop'"),
        ({"datanodes": {"dn1": "http://x"}}, UsageError, "connection hadoop"),
        ({"properties": {"hadoop.rpc.protection": "privacy"}}, UsageError, "signed or encrypted"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, extra: dict[str, Any], kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said):
        place(monkeypatch, extra=json.dumps(extra))
