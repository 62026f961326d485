"""What operators refuse, and what they ask the engine for."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowNotFoundException,
)

from airflow_provider_skyplane.operators.skyplane import SkyplaneOperator
from airflow_provider_skyplane.transfers.s3_to_gcs import SkyplaneS3ToGCSOperator
from skyplane_core.errors import (
    InvalidURI,
    UsageError,
)
from skyplane_core.model import AttributeRules, Unfit
from skyplane_core.spec import Compare, MappingKind
from tests.unit.airflow.recorded import (
    copier,
    drop_in,
)


@pytest.mark.parametrize(
    "kwargs",
    [
        {"source": "gcs://x/y"},
        {"destination": "https://x/y"},
        {"source": ""},
    ],
)
def test_a_literal_uri_that_cannot_be_is_refused_at_parse(kwargs: dict[str, str]) -> None:
    with pytest.raises(InvalidURI):
        SkyplaneOperator(**{"task_id": "t", "source": "s3://a/b", "destination": "gs://c/d", **kwargs})


def test_a_templated_uri_is_checked_once_rendered() -> None:
    operator = copier()
    operator.source = "wrong://{{ nothing }}"
    with pytest.raises(AirflowException, match="unknown scheme"):
        operator.execute({})
    assert operator.hook.engine.requests == []


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        ({"source": "s3://a"}, "recursive=True"),
        ({"source": "s3://a/", "destination": "{{ there }}"}, "recursive=True"),
        ({"source": "file:///data/"}, "recursive=True"),
        ({"destination": "s3://a/b"}, "same"),
        ({"destination": "s3://a/"}, "same"),
        ({"destination": "s3://a/b/", "recursive": True}, "same"),
        ({"destination": "s3://a/b/c", "mode": "sync"}, "inside"),
        ({"source": "s3://a", "destination": "s3://a/c", "recursive": True}, "inside"),
        ({"destination": "s3://a/b", "source_conn_id": "x", "destination_conn_id": "x"}, "same"),
    ],
)
def test_literal_uris_that_cannot_go_together_are_refused_at_parse(kwargs: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        SkyplaneOperator(**{"task_id": "t", "source": "s3://a/b", "destination": "gs://c/d", **kwargs})


@pytest.mark.parametrize(
    "kwargs",
    [
        {"source": "s3://a", "recursive": True},
        {"source": "s3://a", "mode": "sync"},
        {"source": "{{ here }}", "destination": "s3://a/b"},
        {"destination": "s3://a/b/c"},
        {"destination": "s3://a/bc", "recursive": True},
        {"destination": "s3://a/b", "destination_conn_id": "another_service"},
        {"source": "file:///a/b", "destination": "file:///a/b/link/../../c", "recursive": True},
    ],
)
def test_what_may_be_right_is_not_refused_at_parse(kwargs: dict[str, Any]) -> None:
    SkyplaneOperator(**{"task_id": "t", "source": "s3://a/b", "destination": "gs://c/d", **kwargs})


@pytest.mark.parametrize(("kwargs", "tree"), [({}, False), ({"recursive": True}, True), ({"mode": "sync"}, True)])
def test_a_sync_is_recursive_by_itself(kwargs: dict[str, Any], tree: bool) -> None:
    operator = copier(**kwargs)
    operator.execute({})
    assert operator.hook.engine.requests[0].recursive is tree
    with pytest.raises(ValueError, match="recursive"):
        copier(mode="sync", recursive=False)


@pytest.mark.parametrize(
    "kwargs",
    [{"mode": "move"}, {"compression": "zip"}, {"gateways": 0}, {"gateways": 4}, {"poll_interval": 0}],
)
def test_other_bad_arguments_are_refused_at_parse(kwargs: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(kwargs))):
        copier(**kwargs)


@pytest.mark.parametrize(
    "kwargs",
    [{"compare": "hash"}, {"compare": "size", "replace": True}, {"gzip": True, "preserve_metadata": True}],
)
def test_contradictions_of_the_drop_in_are_refused_at_parse(kwargs: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="compare"):
        SkyplaneS3ToGCSOperator(task_id="t", bucket="b", return_gcs_uris=True, **kwargs)


def test_the_drop_ins_defaults_ask_for_parity() -> None:
    operator = drop_in(prefix="data/")
    operator.execute({})
    (request,) = operator.hook.engine.requests
    assert request.options.compare is Compare.NAME
    assert not request.options.keep_attributes
    assert not request.options.record_source
    assert request.selection.drop_covered_markers
    assert not request.selection.tree
    assert request.mapping.kind is MappingKind.APPEND


@pytest.mark.parametrize(
    ("kwargs", "compare", "kind"),
    [
        ({"replace": True}, Compare.ALWAYS, MappingKind.APPEND),
        ({"compare": "exact"}, Compare.EXACT, MappingKind.APPEND),
        ({"compare": "size", "apply_gcs_prefix": True}, Compare.SIZE, MappingKind.REPLACE),
    ],
)
def test_the_drop_ins_opt_ins(kwargs: dict[str, Any], compare: Compare, kind: MappingKind) -> None:
    operator = drop_in(prefix="data/", **kwargs)
    operator.execute({})
    (request,) = operator.hook.engine.requests
    assert request.options.compare is compare
    assert request.options.record_source is (compare is Compare.EXACT)
    assert request.mapping.kind is kind


def test_a_skyplane_connection_that_was_asked_for_must_exist() -> None:
    with pytest.raises(AirflowNotFoundException, match=r"no connection 'nowhere'.*another one with skyplane_conn_id"):
        _ = SkyplaneOperator(
            task_id="t", source="s3://a/b", destination="gs://c/d", skyplane_conn_id="nowhere"
        ).hook.engine


def test_rules_and_options_reach_the_engine() -> None:
    operator = copier(
        attribute_rules={"storage_class": "NEARLINE", "metadata": {"team": "a"}, "unfit": "drop"},
        source_options={"anonymous": True, "requester_pays": True},
    )
    operator.execute({})
    (request,) = operator.hook.engine.requests
    assert request.options.attributes == AttributeRules(
        storage_class="NEARLINE", metadata={"team": "a"}, unfit=Unfit.DROP
    )
