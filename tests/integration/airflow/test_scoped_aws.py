"""Narrowed AWS credentials: what STS is asked for, and that a whole transfer needs no more than it grants."""

# ruff: noqa: TID253  # test code is never parsed as a DAG
from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from airflow_provider_skyplane.hooks.scopes import Scope, s3_policy
from airflow_provider_skyplane.hooks.skyplane import SkyplaneHook
from airflow_provider_skyplane.operators.skyplane import SkyplaneOperator
from airflow_provider_skyplane.transfers.s3_copy_object import SkyplaneS3CopyObjectOperator
from skyplane_core.model import StoreConfig
from tests.servers.bounded_aws import EVERYTHING, PATHS, REGION, Aws, moto_aws, policies, sessions_are_bounded
from tests.servers.token_services import Asked, TokenServer, token_server

SECRET = "canary-control-secret-0123456789abcdef"
OBJECTS = {"data/a": b"1" * 1000, "data/b/c": b"2" * 10, "data/large": b"3" * 12_000_000}


def client(store: StoreConfig) -> Any:
    held = store.credentials
    return boto3.client(
        "s3",
        endpoint_url=store.endpoint_url,
        region_name=REGION,
        aws_access_key_id=held.access_key,
        aws_secret_access_key=held.secret_key,
        aws_session_token=held.session_token,
        config=PATHS,
    )


def denied(call: Any, **arguments: Any) -> bool:
    try:
        call(**arguments)
    except ClientError as error:
        return bool(error.response["Error"]["Code"] in ("AccessDenied", "403"))
    return False


@pytest.fixture(scope="module")
def aws() -> Iterator[Aws]:
    with moto_aws() as found:
        found.put("src", {**OBJECTS, "other": b"not theirs"})
        yield found


@pytest.fixture
def enforced() -> Iterator[None]:
    with sessions_are_bounded():
        yield


@pytest.fixture
def by_role(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", aws.connection(role_arn=aws.role))
    monkeypatch.setenv("AIRFLOW_CONN_SKYPLANE_DEFAULT", json.dumps({"conn_type": "skyplane", "password": SECRET}))


@pytest.mark.usefixtures("by_role", "enforced")
def test_a_source_may_be_read_and_nothing_else() -> None:
    store = SkyplaneHook().place("s3://src/data/").store
    assert policies()[-1] == s3_policy(Scope("src", "data/"))
    assert store.credentials.expires_at is not None
    s3 = client(store)
    assert s3.get_object(Bucket="src", Key="data/a")["Body"].read() == OBJECTS["data/a"]
    assert denied(s3.get_object, Bucket="src", Key="other")
    assert denied(s3.put_object, Bucket="src", Key="data/new", Body=b"")
    assert denied(s3.delete_object, Bucket="src", Key="data/a")
    assert denied(s3.list_objects_v2, Bucket="dst")


@pytest.mark.usefixtures("by_role", "enforced")
def test_a_destination_may_be_written_and_its_source_copied_from() -> None:
    store = SkyplaneHook().place("s3://dst/in", directory=True, written=True, copies_from="s3://src/data/").store
    assert policies()[-1] == s3_policy(Scope("dst", "in/", writes=True, copies_from="src"))
    s3 = client(store)
    s3.put_object(Bucket="dst", Key="in/x", Body=b"")
    s3.delete_object(Bucket="dst", Key="in/x")
    assert s3.get_object(Bucket="src", Key="data/a")["Body"].read() == OBJECTS["data/a"]
    assert denied(s3.put_object, Bucket="dst", Key="elsewhere", Body=b"")
    assert denied(s3.put_object, Bucket="src", Key="data/new", Body=b"")


@pytest.mark.usefixtures("by_role", "enforced")
def test_whole_transfers_need_no_more(aws: Aws, tmp_path: Path) -> None:
    def run(source: str, destination: str, **how: Any) -> dict[str, Any]:
        task = SkyplaneOperator(task_id="t", source=source, destination=destination, recursive=True, **how)
        return task.execute({})

    before = len(policies())
    assert run("s3://src/data/", f"file://{tmp_path}/out")["objects_copied"] == 3
    # In parts, with a receipt elsewhere in the bucket; then the same again, with one gone and one too many.
    up = {"source": f"file://{tmp_path}/out", "destination": "s3://dst/up/", "receipt_path": "receipts"}
    assert run(**up)["objects_copied"] == 3
    assert any(key.startswith("receipts/") for key in aws.keys("dst"))
    (tmp_path / "out" / "a").unlink()
    assert run(**up, mode="sync", delete=True, max_delete="50%")["objects_deleted"] == 1
    assert run("s3://src/data/", "s3://dst/copied/")["objects_copied"] == 3
    # By the store itself, or by gateways.
    assert {key for key in aws.keys("dst") if key.startswith("copied/") and "/.sky" not in key} == {
        key.replace("data/", "copied/") for key in OBJECTS
    }
    assert len(policies()) > before
    assert None not in policies()[before:]


@pytest.mark.usefixtures("by_role")
def test_a_policy_of_ones_own_stays(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    own = json.dumps(EVERYTHING)
    described = aws.connection(role_arn=aws.role, assume_role_kwargs={"Policy": own})
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", described)
    SkyplaneHook().place("s3://src/data/")
    assert policies()[-1] == own


@pytest.mark.parametrize(
    ("scoped", "uri"), [("never", "s3://src/data/"), ("auto", "s3://access-point-s3alias/data/")], ids=str
)
def test_a_role_without_a_policy(
    aws: Aws, monkeypatch: pytest.MonkeyPatch, by_role: None, scoped: str, uri: str
) -> None:
    described = {"conn_type": "skyplane", "password": SECRET, "extra": {"scoped_credentials": scoped}}
    monkeypatch.setenv("AIRFLOW_CONN_SKYPLANE_DEFAULT", json.dumps(described))
    assert SkyplaneHook().place(uri).store.credentials.session_token
    assert policies()[-1] is None


# --- a service that refuses, and users' keys --------------------------------------------------------------------------


class Sts:
    """An STS of a few lines. ``refuses`` names the actions that it does not let have a policy."""

    refuses: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self.server: TokenServer

    @property
    def asked(self) -> list[dict[str, str]]:
        return [asked.fields for asked in self.server.asked]

    def answer(self, asked: Asked) -> tuple[int, bytes]:
        action = asked.fields["Action"]
        if action in self.refuses and "Policy" in asked.fields:
            return 403, b"<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>"
        held = "narrow" if "Policy" in asked.fields else "wide"
        credentials = (
            f"<Credentials><AccessKeyId>ASIA{held}</AccessKeyId><SecretAccessKey>canary-{held}</SecretAccessKey>"
            "<SessionToken>canary-session</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>"
        )
        return 200, f"<{action}Response><{action}Result>{credentials}</{action}Result></{action}Response>".encode()


@pytest.fixture
def sts() -> Iterator[Sts]:
    made = Sts()
    with token_server(made.answer) as made.server:
        yield made


def keys_and(monkeypatch: pytest.MonkeyPatch, sts: Sts, scoped: str, **extra: Any) -> None:
    services = {"s3": {"endpoint_url": "http://127.0.0.1:9"}, "sts": {"endpoint_url": sts.server.url}}
    described = {
        "conn_type": "aws",
        "login": "AKIAUSER",
        "password": "canary-user-secret",
        "extra": {"region_name": REGION, "service_config": services, **extra},
    }
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(described))
    sky = {"conn_type": "skyplane", "password": SECRET, "extra": {"scoped_credentials": scoped}}
    monkeypatch.setenv("AIRFLOW_CONN_SKYPLANE_DEFAULT", json.dumps(sky))


def test_a_role_that_refuses_a_policy_is_assumed_without(
    sts: Sts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    keys_and(monkeypatch, sts, "auto", role_arn="arn:aws-cn:iam::1:role/r")
    assert SkyplaneHook().place("s3://b/k").store.credentials.access_key == "ASIAnarrow"
    assert json.loads(sts.asked[0]["Policy"])["Statement"][0]["Resource"] == "arn:aws-cn:s3:::b"
    sts.refuses = frozenset({"AssumeRole"})
    assert SkyplaneHook().place("s3://b/k").store.credentials.access_key == "ASIAwide"
    assert "The role of connection 'aws_default' is assumed without a policy for b: " in caplog.text
    assert "canary" not in caplog.text


def test_a_users_keys_are_exchanged_if_asked_for(
    sts: Sts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    keys_and(monkeypatch, sts, "auto")
    assert SkyplaneHook().place("s3://b/k").store.credentials.access_key == "AKIAUSER"
    assert sts.asked == []
    keys_and(monkeypatch, sts, "always")
    found = SkyplaneHook().place("s3://b/in/", written=True, directory=True).store
    assert (found.credentials.access_key, found.credentials.session_token) == ("ASIAnarrow", "canary-session")
    assert found.credentials.expires_at == 4070908800.0
    assert sts.asked[0]["Action"] == "GetFederationToken"
    assert sts.asked[0]["Policy"] == s3_policy(Scope("b", "in/", writes=True))
    sts.refuses = frozenset({"GetFederationToken"})
    assert SkyplaneHook().place("s3://b/k").store.credentials.access_key == "AKIAUSER"
    assert "Credentials for s3://b are not narrowed, the connection's own are used" in caplog.text
    assert "canary" not in caplog.text


def test_a_drop_in_has_them_exchanged_for_each_end(sts: Sts, monkeypatch: pytest.MonkeyPatch) -> None:
    keys_and(monkeypatch, sts, "always")
    ends = {"source_bucket_key": "s3://src/in/a", "dest_bucket_key": "s3://dst/out/b"}
    request = SkyplaneS3CopyObjectOperator(task_id="t", **ends)._request()
    for end in (request.source, request.destination):
        assert end().store.credentials.access_key == "ASIAnarrow"
    scopes = Scope("src", "in/a"), Scope("dst", "out/", writes=True, copies_from="src")
    assert [asked["Policy"] for asked in sts.asked] == [s3_policy(scope) for scope in scopes]


def test_what_is_temporary_or_no_aws_is_not_exchanged(sts: Sts, monkeypatch: pytest.MonkeyPatch) -> None:
    keys_and(monkeypatch, sts, "always", aws_session_token="canary-own-session")
    assert SkyplaneHook().place("s3://b/k").store.credentials.session_token == "canary-own-session"
    keys_and(monkeypatch, sts, "always", service_config={"s3": {"endpoint_url": "http://127.0.0.1:9"}})
    assert SkyplaneHook().place("s3://b/k").store.credentials.access_key == "AKIAUSER"
    keys_and(monkeypatch, sts, "always")
    assert SkyplaneHook().place("s3://p-s3alias/k").store.credentials.access_key == "AKIAUSER"
    assert sts.asked == []


def test_what_is_renewed_is_as_narrow(sts: Sts, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By the task that waits, and by the one that a trigger wakes: both resolve the request's ends again."""
    keys_and(monkeypatch, sts, "always")
    hook = SkyplaneHook()
    request = hook.request("s3://b/in/", f"file://{tmp_path}/out")
    prepared = request.prepare(hook.engine.client, "0" * 32)
    assert prepared.credentials_expire_at == 4070908800.0
    assert prepared.renewed().source.credentials.access_key == "ASIAnarrow"
    assert request.prepare(hook.engine.client, "0" * 32).source.credentials.access_key == "ASIAnarrow"
    assert [asked["Policy"] for asked in sts.asked] == [s3_policy(Scope("b", "in/"))] * 3
