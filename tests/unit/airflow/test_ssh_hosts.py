"""SSH hosts in a connection: as text, as JSON, and as Airflow's own connections of type ``ssh``."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowNotFoundException, Connection
from hypothesis import given, strategies

from airflow_provider_skyplane.hooks.skyplane import SkyplaneHook, read_access, read_settings
from airflow_provider_skyplane.hooks.ssh import hosts_of, pem
from skyplane_core.model import Role
from skyplane_core.provision.hosts import SshHost

SECRET = "canary-control-secret-0123456789abcdef"
BODY = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZWQyNTUxOQAAACB"
PEM = f"-----BEGIN OPENSSH PRIVATE KEY-----\n{BODY[:70]}\n{BODY[70:]}\n-----END OPENSSH PRIVATE KEY-----\n"
SSH = {
    "key": Connection(
        conn_id="key", conn_type="ssh", host="h1", login="u", port=2200, extra=json.dumps({"private_key": PEM})
    ),
    "file": Connection(
        conn_id="file",
        conn_type="ssh",
        host="h2",
        password="opens it",
        extra=json.dumps({"key_file": "/k", "host_key": "ssh-ed25519 AAAA", "no_host_key_check": True}),
    ),
    "bare": Connection(conn_id="bare", conn_type="ssh", host="h3", login="u", extra=json.dumps({"host_key": "AAAA"})),
    "password": Connection(conn_id="password", conn_type="ssh", host="h", login="u", password="canary-pass"),
    "aws": Connection(conn_id="aws", conn_type="aws", host="h"),
    "nowhere": Connection(conn_id="nowhere", conn_type="ssh", login="u"),
}


def look_up(conn_id: str) -> Any:
    if conn_id not in SSH:
        raise AirflowNotFoundException(f"The conn_id `{conn_id}` isn't defined")
    return SSH[conn_id]


def hosts(said: Any, **extra: Any) -> tuple[SshHost, ...]:
    return hosts_of("sky", {"hosts": said, **extra}, look_up)


GOOD: list[tuple[Any, tuple[SshHost, ...]]] = [
    (None, ()),
    ("  ", ()),
    ("h1 u@h2:22\n\n[2001:db8::1]:23", (SshHost("h1"), SshHost("h2", user="u"), SshHost("2001:db8::1", port=23))),
    (["u@h"], (SshHost("h", user="u"),)),
    ('["u@h"]', (SshHost("h", user="u"),)),
    ('{"address": "h", "region": "aws:us-east-1"}', (SshHost("h", region="aws:us-east-1"),)),
    ([{"address": "h", "role": "writer"}, "g"], (SshHost("h", role=Role.WRITER), SshHost("g"))),
    ([{"conn_id": "key"}], (SshHost("h1", port=2200, user="u", name="key", private_key=PEM),)),
    (
        [{"conn_id": "bare", "ports": "1-2"}],
        (SshHost("h3", user="u", name="bare", host_key="ssh-rsa AAAA", ports="1-2"),),
    ),
    (
        [{"conn_id": "file"}],
        (SshHost("h2", name="file", key="/k", passphrase="opens it", host_key="ssh-ed25519 AAAA"),),
    ),
]


@pytest.mark.parametrize(("said", "meant"), GOOD, ids=str)
def test_hosts_may_be_said_in_many_ways(said: Any, meant: tuple[SshHost, ...]) -> None:
    # Structs of equal fields are equal, a repr shows a host's name alone.
    assert hosts(said) == meant


BAD: list[tuple[Any, str]] = [
    ("u@", "not a host ['u@']"),
    ("[not json", "it is no JSON"),
    (7, "it is 7"),
    ([7], "a host is 7"),
    ([{}], "missing required field `address`"),
    ([{"address": "h", "color": 1}], "unknown field `color`"),
    ([{"address": "h", "role": "boss"}], "Invalid enum value 'boss'"),
    ([{"address": "h", "port": 0}], "port of host 'h' is not usable"),
    ("h h", "a host is given twice"),
    ("a b c d", "4 hosts and no roles"),
    ([{"address": "a", "role": "reader"}], "none of the hosts may be a writer"),
    ([{"conn_id": "password"}], "SSH connection 'password' logs in with a password"),
    ([{"conn_id": "aws"}], "Connection 'aws' is no SSH connection with a host"),
    ([{"conn_id": "nowhere"}], "Connection 'nowhere' is no SSH connection with a host"),
    ([{"conn_id": "none"}], "The conn_id `none` isn't defined"),
]


@pytest.mark.parametrize(("said", "told"), BAD, ids=str)
def test_hosts_that_cannot_be_used_are_named(said: Any, told: str) -> None:
    with pytest.raises(AirflowException) as refused:
        hosts(said)
    assert told in str(refused.value)
    assert "canary-pass" not in str(refused.value)


def test_a_shared_key_is_for_hosts_without_one() -> None:
    first, second = hosts([{"conn_id": "file"}, "u@g"], ssh_private_key=PEM)
    assert (first.key, first.private_key) == ("/k", "")
    assert (second.key, second.private_key) == ("", PEM)


@pytest.mark.parametrize(
    "eaten", [PEM, PEM.strip(), PEM.replace("\n", "\\n"), PEM.replace("\n", ""), PEM.replace("\n", " ")], ids=range(5)
)
def test_line_breaks_that_a_form_has_eaten_come_back(eaten: str) -> None:
    assert pem(eaten) == PEM


@given(strategies.text(max_size=200))
def test_what_is_no_key_stays_what_it_is(text: str) -> None:
    assert pem(text).split() == text.replace("\\n", "\n").split()


def test_a_trigger_reads_the_same_without_blocking(monkeypatch: pytest.MonkeyPatch) -> None:
    ssh = {"conn_type": "ssh", "host": "h1", "login": "u", "extra": {"private_key": PEM}}
    extra = {"hosts": [{"conn_id": "ssh_one", "role": "reader"}, "w"], "budget_usd": 3}
    monkeypatch.setenv("AIRFLOW_CONN_SSH_ONE", json.dumps(ssh))
    monkeypatch.setenv("AIRFLOW_CONN_SKY", json.dumps({"conn_type": "skyplane", "password": SECRET, "extra": extra}))
    settings = asyncio.run(read_settings("sky"))
    assert settings == SkyplaneHook("sky").settings
    assert asyncio.run(read_access("sky")) == (SECRET.encode(), settings.hosts)
    assert [host.role for host in settings.hosts] == [Role.READER, None]


def test_a_trigger_without_a_secret_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SKY", json.dumps({"conn_type": "skyplane"}))
    with pytest.raises(AirflowException, match="'sky' holds no control secret"):
        asyncio.run(read_access("sky"))
