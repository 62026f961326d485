"""SSH hosts of a ``skyplane`` connection: looked at, used by a task, and watched by a trigger, over real SSH."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, TaskDeferred

from airflow_provider_skyplane.hooks.skyplane import SkyplaneHook
from airflow_provider_skyplane.operators.skyplane import SkyplaneOperator
from airflow_provider_skyplane.triggers import skyplane as trigger_module
from tests.integration.ssh.conftest import Serve, processes_of
from tests.servers.airflow_clouds import SECRET_KEY, Clouds, clouds
from tests.servers.airflow_threads import no_idle_thread
from tests.servers.sshd import SshServer, keypair

__all__ = ["no_idle_thread"]

SECRET = "canary-control-secret-0123456789abcdef"
OBJECTS = {f"data/f{number:02}": b"text " * 2000 for number in range(8)}


class Pulled:
    """A task instance, as far as a deferring task needs one."""

    try_number, map_index, task_id, dag_id, run_id = 1, -1, "copy", "d", "r"

    def __init__(self) -> None:
        self.pushed: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any, **_how: Any) -> None:
        self.pushed[key] = value


def host(server: SshServer, **settings: Any) -> dict[str, Any]:
    public = Path(f"{server.host_key}.pub").read_text().strip()
    return {"address": server.address, "port": server.port, "bind": server.address, "host_key": public, **settings}


def connect(monkeypatch: pytest.MonkeyPatch, hosts: Any, key: Path | None) -> SkyplaneHook:
    shared = {} if key is None else {"ssh_private_key": key.read_text()}
    described = {
        "conn_type": "skyplane",
        "password": SECRET,
        "extra": {"hosts": hosts, "pool_mib": 64, **shared},
    }
    monkeypatch.setenv("AIRFLOW_CONN_SKYPLANE_DEFAULT", json.dumps(described))
    return SkyplaneHook()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Any:
    with clouds(["src"], ["dst"]) as found:
        found.put("src", OBJECTS)
        for name, value in found.environment().items():
            monkeypatch.setenv(name, value)
        yield found


def test_test_connection_reaches_each_host(
    serve: Serve, client_key: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    one, two = serve(), serve()
    working, told = connect(monkeypatch, [host(one, name="one"), host(two)], client_key).test_connection()
    assert working, told
    assert told.startswith("The connection is complete. one answers: Python 3.")
    assert f"{two.address}:{two.port} answers" in told
    assert list(one.home.iterdir()) == list(two.home.iterdir()) == []
    assert processes_of(one) == processes_of(two) == []

    wrong = keypair(tmp_path / "wrong")
    for hosts, key, complaint in (
        ([host(one), host(two, key=str(wrong))], client_key, f"the host refuses the login [{two.address}:{two.port}]"),
        ([host(one, host_key=host(two)["host_key"])], client_key, "the host is not known to be the right one"),
        ([host(one, python="python9")], client_key, "the host has no python9"),
        ([host(one, directory="/nowhere")], client_key, "the host's system refuses"),
        ([host(one, key=str(tmp_path / "none"))], None, "the private key cannot be read"),
    ):
        working, told = connect(monkeypatch, hosts, key).test_connection()
        assert not working
        assert complaint in told
    two.stop()
    working, told = connect(monkeypatch, [host(one), host(two, name="two")], client_key).test_connection()
    assert not working
    assert "the host cannot be reached by SSH [two]" in told


def test_a_task_defers_over_hosts_and_its_trigger_watches_through_ssh(
    serve: Serve, client_key: Path, monkeypatch: pytest.MonkeyPatch, world: Clouds
) -> None:
    reader, writer = serve(), serve()
    ssh = host(reader)
    extra = {"private_key": client_key.read_text(), "host_key": ssh["host_key"]}
    described = {"conn_type": "ssh", "host": ssh["address"], "port": ssh["port"], "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_SSH_READER", json.dumps(described))
    # The reader's control port is open on its own loopback alone.
    hosts = [
        {"conn_id": "ssh_reader", "bind": reader.address, "control": "ssh", "role": "reader"},
        host(writer, role="writer", key=str(client_key)),
    ]
    connect(monkeypatch, json.dumps(hosts), None)
    monkeypatch.setattr(trigger_module, "RESUME_NOT_BEFORE_SECONDS", 0.0)
    task = SkyplaneOperator(
        task_id="copy",
        source="s3://src/data/",
        destination="gs://dst/out/",
        recursive=True,
        deferrable=True,
        poll_interval=0.05,
        durable=False,
    )
    instance = Pulled()
    with pytest.raises(TaskDeferred) as deferred:
        task.execute({"ti": instance})
    trigger = deferred.value.trigger
    row = json.dumps(trigger.serialize()[1])
    for secret in (SECRET, SECRET_KEY, "PRIVATE KEY"):
        assert secret not in row
        assert secret not in json.dumps(instance.pushed)

    async def watched() -> list[dict[str, Any]]:
        return [event.payload async for event in trigger.run()]

    (event,) = asyncio.run(watched())
    assert event["status"] == "success", event
    summary = task.execute_complete({"ti": instance}, event)
    assert summary["objects_copied"] == len(OBJECTS)
    assert {name for name in world.objects("dst") if "/.skyplane/" not in name} == {
        key.replace("data/", "out/") for key in OBJECTS
    }
    assert processes_of(reader) == processes_of(writer) == []
    assert list(reader.home.iterdir()) == list(writer.home.iterdir()) == []


def test_files_of_the_worker_are_refused(
    serve: Serve, client_key: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, world: Clouds
) -> None:
    one = serve()
    connect(monkeypatch, [host(one)], client_key)
    task = SkyplaneOperator(task_id="t", source=f"file://{tmp_path}", destination="gs://dst/out/", recursive=True)
    monkeypatch.setenv(
        "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", '{"conn_type": "google_cloud_platform", "extra": {"is_anonymous": true}}'
    )
    with pytest.raises(AirflowException, match="gateways on other hosts do not see the files of this machine"):
        task.execute({})
    assert processes_of(one) == []
    assert world.objects("dst") == {}
