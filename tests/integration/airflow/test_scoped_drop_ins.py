"""Every drop-in for a stock operator with narrowed credentials, on servers that hold them to what they are good for."""

# ruff: noqa: TID253  # test code is never parsed as a DAG
from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import datetime
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred
from azure.storage.blob import BlobServiceClient

from airflow_provider_skyplane.hooks.scopes import Scope, gcs_boundary, s3_policy
from airflow_provider_skyplane.transfers.azure_blob_to_gcs import SkyplaneAzureBlobStorageToGCSOperator
from airflow_provider_skyplane.transfers.azure_blob_to_s3 import SkyplaneAzureBlobStorageToS3Operator
from airflow_provider_skyplane.transfers.drop_in import SkyplaneDropIn
from airflow_provider_skyplane.transfers.gcs_to_gcs import SkyplaneGCSToGCSOperator
from airflow_provider_skyplane.transfers.gcs_to_s3 import SkyplaneGCSToS3Operator
from airflow_provider_skyplane.transfers.gcs_to_wasb import SkyplaneGCSToAzureBlobStorageOperator
from airflow_provider_skyplane.transfers.s3_copy_object import SkyplaneS3CopyObjectOperator
from airflow_provider_skyplane.transfers.s3_to_gcs import SkyplaneS3ToGCSOperator
from airflow_provider_skyplane.transfers.s3_to_wasb import SkyplaneS3ToAzureBlobStorageOperator
from airflow_provider_skyplane.triggers import skyplane as triggers
from skyplane_core.client import Dataplane, SkyplaneClient
from skyplane_core.model import StoreConfig
from skyplane_core.testing.objectserver import Fault, Faults, ObjectServer
from tests.servers import azurite
from tests.servers.botocore_files import read_once
from tests.servers.bounded_aws import Aws, moto_aws, policies, sessions_are_bounded
from tests.servers.bounded_google import OWN, BoundedGoogle, bounded_google
from tests.servers.bounded_s3 import bounded_s3
from tests.servers.deferral import TaskInstance, event_of
from tests.servers.kept_dataplane import kept_dataplane
from tests.servers.process_memory import family, held_of

ACCOUNT, KEY = "theirs", base64.b64encode(b"canary-key-of-the-account").decode()
ONES_OWN = SkyplaneClient.dataplane
"""What gives each transfer gateways of its own."""
SECRET = "canary-control-secret-0123456789abcdef"
HOW = {"deferrable": True, "poll_interval": 0.1, "local_gateways_outlive_task": True}
# The large one goes in parts.
TREE = {"in/a": b"a" * 100, "in/large": b"b" * 12_000_000, "in/sub/c": b"c" * 300}
SOURCES = {**TREE, "other": b"not theirs"}
SOURCE_BOX, MADE_BOX = f"{ACCOUNT}/src", f"{ACCOUNT}/made"


@dataclasses.dataclass(frozen=True)
class Run:
    """A drop-in, its arguments, what it returns the first time and again, and the scopes of its two ends."""

    operator: type[SkyplaneDropIn]
    given: dict[str, Any]
    returned: Any
    again: Any
    source: Scope
    destination: Scope

    def task(self, **more: Any) -> SkyplaneDropIn:
        return self.operator(task_id="copy", **self.given, **more)


RUNS = {
    "s3-to-gcs": Run(
        SkyplaneS3ToGCSOperator,
        {"bucket": "src", "prefix": "in/", "dest_gcs": "gs://dst/s3/", "return_gcs_uris": True},
        *([f"gs://dst/s3/{key}" for key in sorted(TREE)], []),
        *(Scope("src", "in/"), Scope("dst", writes=True)),
    ),
    "gcs-to-s3": Run(
        SkyplaneGCSToS3Operator,
        {
            "gcs_bucket": "src",
            "prefix": "in/",
            "dest_s3_key": "s3://dst/gcs",
            "dest_s3_extra_args": {"Tagging": "a=b"},
        },
        *(sorted(TREE), []),
        *(Scope("src"), Scope("dst", "gcs/", writes=True)),
    ),
    "azure-to-gcs": Run(
        SkyplaneAzureBlobStorageToGCSOperator,
        {
            "container_name": "src",
            "blob_name": "in/large",
            "bucket_name": "dst",
            "object_name": "azure/x",
            "filename": "unused",
            "gzip": False,
            "unwrap_single": True,
        },
        *("gs://dst/azure/x", "gs://dst/azure/x"),
        *(Scope(SOURCE_BOX), Scope("dst", writes=True)),
    ),
    "gcs-to-gcs": Run(
        SkyplaneGCSToGCSOperator,
        {
            "source_bucket": "src",
            "source_object": "in/",
            "replace": False,
            "destination_bucket": "dst",
            "destination_object": "copied/",
        },
        *(["gs://dst/copied/a", "gs://dst/copied/large", "gs://dst/copied/sub/c"], []),
        *(Scope("src"), Scope("dst", writes=True, copies_from="src")),
    ),
    "s3-to-azure": Run(
        SkyplaneS3ToAzureBlobStorageOperator,
        {
            "s3_bucket": "src",
            "s3_prefix": "in/",
            "container_name": "made",
            "blob_prefix": "s3",
            "create_container": True,
            "s3_verify": True,
        },
        *(sorted(key.removeprefix("in/") for key in TREE), []),
        *(Scope("src", "in/"), Scope(MADE_BOX, writes=True)),
    ),
    "s3-to-azure-one": Run(
        SkyplaneS3ToAzureBlobStorageOperator,
        {
            "s3_bucket": "src",
            "s3_prefix": "in/sub/",
            "container_name": "made",
            "blob_name": "one",
            "create_container": True,
            "s3_verify": True,
        },
        *(["c"], []),
        *(Scope("src", "in/sub/"), Scope(MADE_BOX, writes=True)),
    ),
    "gcs-to-azure": Run(
        SkyplaneGCSToAzureBlobStorageOperator,
        {
            "gcs_bucket": "src",
            "prefix": "in/",
            "container_name": "made",
            "blob_prefix": "gcs",
            "create_container": True,
        },
        *([f"gcs/{key}" for key in sorted(TREE)], []),
        *(Scope("src"), Scope(MADE_BOX, writes=True)),
    ),
    "azure-to-s3": Run(
        SkyplaneAzureBlobStorageToS3Operator,
        {"container_name": "src", "prefix": "in/", "dest_s3_key": "s3://dst/azure"},
        *(sorted(TREE), []),
        *(Scope(SOURCE_BOX), Scope("dst", "azure/", writes=True)),
    ),
    "s3-copy-object": Run(
        SkyplaneS3CopyObjectOperator,
        {"source_bucket_key": "s3://src/in/a", "dest_bucket_key": "s3://dst/copied/deep/a"},
        *(None, None),
        *(Scope("src", "in/a"), Scope("dst", "copied/deep/", writes=True, copies_from="src")),
    ),
}


@dataclasses.dataclass(frozen=True)
class World:
    """The three clouds: sources are called ``src``, destinations ``dst``; the container ``made`` is not there."""

    aws: Aws
    google: BoundedGoogle
    azure_url: str


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with (
        pytest.MonkeyPatch.context() as patch,
        moto_aws() as aws,
        azurite.running(tmp_path_factory.mktemp("azurite"), account=ACCOUNT, key=KEY) as azure_url,
        bounded_google("src", "dst", "moved") as google,
    ):
        read_once(patch)
        host = f"{azure_url}/{ACCOUNT}"
        wasb = {"conn_type": "wasb", "login": ACCOUNT, "password": KEY, "host": host}
        patch.setenv("AIRFLOW_CONN_WASB_DEFAULT", json.dumps(wasb))
        patch.setenv("AIRFLOW_CONN_AWS_DEFAULT", aws.connection(role_arn=aws.role))
        aws.put("src", SOURCES, Tagging="kept=yes")
        with BlobServiceClient(host, credential=KEY) as service:
            service.create_container("src").close()
            for key, body in SOURCES.items():
                google.server.put("src", key, body)
                service.get_blob_client("src", key).upload_blob(body)
        yield World(aws, google, azure_url)


def scoped(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    sky = {"conn_type": "skyplane", "password": SECRET, "extra": {"scoped_credentials": how, "pool_mib": 64}}
    monkeypatch.setenv("AIRFLOW_CONN_SKYPLANE_DEFAULT", json.dumps(sky))


@pytest.fixture
def always(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """All credentials are narrowed, and the servers hold them to it."""
    scoped(monkeypatch, "always")
    world.google.own_calls.clear()
    with sessions_are_bounded() as refused:
        yield world
    # An engine that finds another way when it is refused something would hide it.
    assert (refused, world.google.refused) == ([], [])


@pytest.fixture(scope="module")
def gateway() -> Iterator[None]:
    with kept_dataplane():
        yield


def good_for(world: World, store: StoreConfig) -> str:
    """What a store's credentials are good for, in its cloud's own words; empty for the connection's own."""
    held = store.credentials
    if store.kind == "s3":
        assert held.session_token, "a user's own keys"
        return policies()[-1] or ""
    if store.kind == "gcs":
        return "" if held.token == OWN else str(world.google.boundary(held.token))
    if held.secret_key:
        return ""
    told = {name: values[0] for name, values in parse_qs(held.sas).items()}
    return f"{told['sr']} {told['sp']}"


def expected(kind: str, scope: Scope) -> str:
    if kind == "s3":
        return s3_policy(scope) or ""
    if kind == "gcs":
        return str(gcs_boundary(scope))
    return "c rcwdl" if scope.writes else "c rl"


@pytest.mark.parametrize("name", RUNS)
def test_it_needs_no_more_than_its_scopes_allow(name: str, always: World, gateway: None) -> None:
    run = RUNS[name]
    request = run.task()._request()
    for end, scope in ((request.source, run.source), (request.destination, run.destination)):
        store = end().store
        assert good_for(always, store) == expected(store.kind, scope)
    assert run.task(receipt_path="receipts").execute({}) == run.returned
    assert run.task().execute({}) == run.again
    assert always.google.own_calls == []


@pytest.mark.parametrize("buckets", [("src", "moved"), ("moved", "moved")], ids="-in-".join)
def test_a_move_deletes_at_the_source(buckets: tuple[str, str], always: World, gateway: None) -> None:
    source, destination = buckets
    server = always.google.server
    server.put(source, "to-move/a", b"a")
    server.put(source, "to-move/b", b"b")
    task = SkyplaneGCSToGCSOperator(
        task_id="move",
        source_bucket=source,
        source_object="to-move/",
        destination_bucket=destination,
        destination_object=f"from-{source}/",
        move_object=True,
    )
    assert task.execute({}) == [f"gs://{destination}/from-{source}/{name}" for name in "ab"]
    assert server.list(source, "to-move/") == []
    assert always.google.own_calls == []


def test_what_is_retained_is_retained_by_the_worker(always: World, gateway: None) -> None:
    """A gateway never gets a right to retain; the worker has the connection's own."""
    until = datetime.datetime(2099, 1, 1, tzinfo=datetime.timezone.utc)
    run = RUNS["gcs-to-gcs"]
    more = {"destination_object": "retained/", "retain_until_time": until}
    task = dataclasses.replace(run, given={**run.given, **more}).task()
    assert len(task.execute({})) == len(TREE)
    assert set(always.google.own_calls) == {"PatchObject"}


def test_sources_of_what_is_retained_are_deleted_by_the_worker(always: World, gateway: None) -> None:
    until = datetime.datetime(2099, 1, 1, tzinfo=datetime.timezone.utc)
    always.google.server.put("moved", "to-retain/a", b"a")
    ends = {"source_bucket": "moved", "source_object": "to-retain/", "destination_bucket": "dst"}
    task = SkyplaneGCSToGCSOperator(task_id="move", move_object=True, retain_until_time=until, **ends)
    assert good_for(always, task._request().source().store) == expected("gcs", Scope("moved"))
    assert task.execute({}) == ["gs://dst/to-retain/a"]
    assert always.google.server.list("moved", "to-retain/") == []
    assert always.google.own_calls == ["PatchObject", "DeleteObject"]


@pytest.mark.parametrize(("how", "narrowed"), [("never", set()), ("auto", {"s3"})])
@pytest.mark.parametrize("name", ["gcs-to-s3", "gcs-to-azure"])
def test_the_connection_says_what_is_narrowed(
    name: str, how: str, narrowed: set[str], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    scoped(monkeypatch, how)
    request = RUNS[name].task()._request()
    for end in (request.source, request.destination):
        store = end().store
        assert bool(good_for(world, store)) == (store.kind in narrowed)


def test_only_a_move_may_delete_at_its_source(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    scoped(monkeypatch, "always")
    run = RUNS["gcs-to-gcs"]
    for moves in (False, True):
        store = run.task(move_object=moves)._request().source().store
        assert good_for(world, store) == expected("gcs", Scope("src", moves=moves))


def test_who_pays_keeps_the_connections_token(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """No bound token can carry the right on a project that it takes."""
    scoped(monkeypatch, "always")
    request = RUNS["gcs-to-s3"].task(gcp_user_project="payer")._request()
    assert request.source().store.credentials.token == OWN


def test_s3_copies_by_itself_with_what_its_destination_was_given(
    always: World, gateway: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """moto is not asked to; a server of ours is. The policies come from moto's STS."""
    with bounded_s3("src", "dst") as s3:
        old = f"{s3.server.put('src', 'in/a', b'old')['generation']:032x}"
        s3.server.put("src", "in/a", b"new")
        endpoints = {"s3": {"endpoint_url": s3.server.endpoint_url}, "sts": {"endpoint_url": always.aws.url}}
        described = always.aws.connection(role_arn=always.aws.role, service_config=endpoints)
        monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", described)
        given = {"source_bucket_name": "src", "source_bucket_key": "in/a", "acl_policy": "bucket-owner-full-control"}
        for version, bucket in ((old, "dst"), (None, "dst"), (None, "src")):
            SkyplaneS3CopyObjectOperator(
                task_id="copy", **given, dest_bucket_name=bucket, dest_bucket_key="out/b", source_version_id=version
            ).execute({})
            assert s3.server.get(bucket, "out/b") == (b"old" if version else b"new")
        assert s3.refused == []
        assert s3.operations.count("CopyObject") == 3


# --- while deferred ---------------------------------------------------------------------------------------------------


def deferred(call: Any, *given: Any) -> Any:
    """The trigger for which a task gives up its slot."""
    with pytest.raises(TaskDeferred) as raised:
        call({"ti": TaskInstance()}, *given)
    return raised.value.trigger


@contextlib.contextmanager
def held_back(server: ObjectServer) -> Iterator[None]:
    """No object is read from it in the meantime."""
    server.set_faults(Faults(Fault("GetObject", "hold-before")))
    try:
        yield
    finally:
        server.set_faults(None)
        server.release()


@pytest.fixture
def gateways_end(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each transfer has gateways of its own, which end with the test, however it ends."""
    made: list[Dataplane] = []

    def dataplane(client: SkyplaneClient) -> Dataplane:
        made.append(ONES_OWN(client))
        return made[-1]

    monkeypatch.setattr(SkyplaneClient, "dataplane", dataplane)
    yield
    for one in made:
        one.deprovision()


def held(trigger: Any, secrets: dict[str, str]) -> set[str]:
    """The names of those secrets that are in the memory of any process of the gateways."""
    pids = [gateway["pid"] for gateway in json.loads(trigger.dataplane)["gateways"]]
    known = {secret.encode(): name for name, secret in secrets.items()}
    return {known[secret] for pid in pids for process in family(pid) for secret in held_of(process, known)}


def lasting(world: World) -> dict[str, str]:
    """What a connection has that does not expire by itself, or is good for everything."""
    return {
        "aws": world.aws.key["SecretAccessKey"],
        "azure": KEY,
        "google key": world.google.private_key.splitlines()[3],
        "google token": OWN,
        "control": SECRET,
    }


def test_gateways_hold_what_they_are_given(always: World, gateways_end: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a search which finds nothing means something."""
    scoped(monkeypatch, "never")
    task = RUNS["gcs-to-azure"].task(replace=True, **HOW)
    with held_back(always.google.server):
        trigger = deferred(task.execute)
        always.google.server.wait_held()
        assert held(trigger, lasting(always)) == {"azure", "google token"}
        task.hook.engine.deprovision(trigger.dataplane)


@pytest.mark.parametrize(
    ("name", "elsewhere"),
    [("gcs-to-s3", {"dest_s3_key": "s3://dst/late"}), ("gcs-to-azure", {"blob_prefix": "late"})],
)
def test_what_a_woken_task_renews_is_as_narrow_and_no_gateway_ever_holds_a_lasting_secret(
    name: str, elsewhere: dict[str, str], always: World, gateways_end: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triggers, "RESUME_NOT_BEFORE_SECONDS", 0.0)
    google, server = always.google, always.google.server
    run = dataclasses.replace(RUNS[name], given={**RUNS[name].given, **elsewhere})
    # A trigger wakes a task when there is less left than ten minutes.
    monkeypatch.setattr(google, "seconds", 601)
    first = len(google.tokens())
    with held_back(server):
        trigger = deferred(run.task(**HOW).execute)
        given = google.tokens()[first:]
        server.wait_held()
        assert held(trigger, {**lasting(always), "bound": given[0]}) == {"bound"}
        event = asyncio.run(event_of(trigger))
        assert event["status"] == "renew"
        monkeypatch.setattr(google, "seconds", 3000)
        trigger = deferred(run.task(**HOW).execute_complete, event)
        # From here on only what the woken task has brought is good for anything.
        fresh = google.tokens()[-1]
        assert fresh not in given
        google.revoke(keep=fresh)
        assert held(trigger, {**lasting(always), "bound": fresh}) == {"bound"}
    event = asyncio.run(event_of(trigger))
    returned = [name.replace("gcs/", "late/") for name in run.returned]
    assert run.task(**HOW).execute_complete({"ti": TaskInstance()}, event) == returned
