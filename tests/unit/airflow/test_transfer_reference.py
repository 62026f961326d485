"""Which transfer a sensor is told to wait for."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_skyplane.reference import TransferReference
from skyplane_core.errors import UsageError

ID = "0123456789abcdef" * 2
OTHER = ID[::-1]


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (ID, TransferReference(ID)),
        ({"transfer_id": ID}, TransferReference(ID)),
        ({"transfer_id": ID, "dataplane": '{"a": 1}'}, TransferReference(ID, '{"a": 1}')),
        (json.dumps({"transfer_id": ID, "dataplane": {"a": 1}}), TransferReference(ID, '{"a": 1}')),
        (
            {"transfer_id": ID, "objects_copied": 3, "receipt": f"gs://b/x/.skyplane/{ID}/receipt.json"},
            TransferReference(ID, destinations=("gs://b/x/",)),
        ),
        ({"transfer_id": ID, "receipt": f"s3://logs/runs/{ID}.jsonl"}, TransferReference(ID)),
        ({"transfer_id": ID, "receipt": ""}, TransferReference(ID)),
        (
            {"transfer_id": f"{ID},{OTHER}", "dataplane": "{}"},
            TransferReference(f"{ID},{OTHER}", "{}", ("", "")),
        ),
        (
            {
                "objects_copied": 6,
                "destinations": [
                    {"transfer_id": ID, "receipt": f"gs://b/.skyplane/{ID}/receipt.json"},
                    {"transfer_id": OTHER, "receipt": f"az://a/c/x/.skyplane/{OTHER}/receipt.json"},
                ],
            },
            TransferReference(f"{ID},{OTHER}", "", ("gs://b/", "az://a/c/x/")),
        ),
    ],
)
def test_it_is_named_in_several_ways(said: Any, meant: TransferReference) -> None:
    assert TransferReference.of(said) == meant


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (None, "no transfer is named by None"),
        ("", "'' is no transfer's id"),
        ("None", "'None' is no transfer's id"),
        (["a"], "no transfer is named by ['a']"),
        ({}, "None is no transfer's id"),
        ({"transfer_id": f"{ID},"}, f"'{ID},' is no transfer's id"),
        ({"destinations": [{"transfer_id": ID}, {}]}, "None is no transfer's id"),
        ({"transfer_id": "../../etc"}, "'../../etc' is no transfer's id"),
        ("{'transfer_id': 'a'}", "no JSON"),
    ],
)
def test_anything_else_is_refused_with_what_to_write(said: Any, told: str) -> None:
    with pytest.raises(UsageError) as refused:
        TransferReference.of(said)
    assert told in str(refused.value)
    assert "copy.output" in str(refused.value)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.sampled_from(["transfer_id", "dataplane", "receipt", "destinations"]), inner)
        ),
    )
)
def test_whatever_is_said_it_is_an_id_or_refused(said: Any) -> None:
    with contextlib.suppress(UsageError):
        assert len(TransferReference.of(said).transfer_id) >= 32
