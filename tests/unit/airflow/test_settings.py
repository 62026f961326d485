"""What a ``skyplane`` connection may say, and what is refused by name before anything starts."""

from __future__ import annotations

import json
import math
import sys
import types
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowNotFoundException, Connection
from hypothesis import given, strategies

from airflow_provider_skyplane.engine import Engine
from airflow_provider_skyplane.get_provider_info import CONN_FIELDS, PLACEHOLDERS, get_provider_info
from airflow_provider_skyplane.hooks import settings as module
from airflow_provider_skyplane.hooks.form import widgets
from airflow_provider_skyplane.hooks.settings import MIB, Scoping, Settings
from airflow_provider_skyplane.hooks.skyplane import SkyplaneHook
from skyplane_core.model import Compression
from skyplane_core.provision.hosts import SshHost

SECRET = "canary-control-secret-0123456789abcdef"
KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nY2FuYXJ5\n-----END OPENSSH PRIVATE KEY-----\n"


def nobody(conn_id: str) -> Any:
    raise AirflowNotFoundException(f"The conn_id `{conn_id}` isn't defined")


def read(extra: dict[str, Any], **connection: Any) -> Settings:
    described = {"conn_id": "sky", "conn_type": "skyplane", "password": SECRET, **connection}
    return Settings.of(Connection(extra=json.dumps(extra), **described), nobody)


FIELDS: list[tuple[dict[str, Any], str, Any]] = [
    ({}, "gateways", 1),
    ({"gateways": "3"}, "gateways", 3),
    ({"gateways": None, "hosts": "", "ssh_private_key": ""}, "hosts", ()),
    ({"hosts": "u@h1\nu@h2:2222"}, "hosts", (SshHost("h1", user="u"), SshHost("h2", user="u", port=2222))),
    ({"hosts": "u@h1", "gateways": 1}, "hosts", (SshHost("h1", user="u"),)),
    ({"hosts": "u@h", "ssh_private_key": KEY}, "hosts", (SshHost("h", user="u", private_key=KEY),)),
    (
        {"hosts": "u@h", "ssh_key_file": "/k", "ssh_passphrase": "p"},
        "hosts",
        (SshHost("h", user="u", key="/k", passphrase="p"),),
    ),
    ({"pool_mib": 64}, "pool_bytes", 64 * MIB),
    ({"pool_mib": "0.5"}, "pool_bytes", MIB // 2),
    ({"expiry_minutes": 2}, "expiry_seconds", 120.0),
    ({"compression": "lz4"}, "compression", Compression.LZ4),
    ({}, "compression", None),
    ({"budget_usd": "12.5"}, "budget_usd", 12.5),
    ({"scoped_credentials": "never"}, "scoping", Scoping.NEVER),
    ({}, "scoping", Scoping.AUTO),
    ({"provisioner": "local"}, "gateways", 1),
    ({"provisioner": "ssh", "hosts": "h"}, "hosts", (SshHost("h"),)),
    ({"extra__skyplane__gateways": 2}, "gateways", 2),
]


@pytest.mark.parametrize(("extra", "name", "value"), FIELDS, ids=str)
def test_what_it_may_say(extra: dict[str, Any], name: str, value: Any) -> None:
    found = read(extra)
    assert getattr(found, name) == value
    assert SECRET not in repr(found)
    assert found.control_secret == SECRET.encode()


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"gateways": True}, "gateways of connection 'sky' is True. Expected one of 1, 2, 3"),
    ({"gateways": 2, "hosts": "h"}, "gateways of connection 'sky' is 2. Expected nothing beside hosts"),
    ({"pool_mib": 0}, "pool_mib of connection 'sky' is 0. Expected a number greater than 0"),
    ({"pool_mib": "much"}, "pool_mib of connection 'sky' is 'much'"),
    ({"expiry_minutes": -1}, "expiry_minutes of connection 'sky' is -1"),
    ({"expiry_minutes": "inf"}, "expiry_minutes of connection 'sky' is 'inf'"),
    ({"budget_usd": "nan"}, "budget_usd of connection 'sky' is 'nan'"),
    ({"budget_usd": True}, "budget_usd of connection 'sky' is True"),
    ({"budget_usd": [1]}, "budget_usd of connection 'sky' is [1]"),
    ({"compression": "zip"}, "compression of connection 'sky' is 'zip'. Expected one of auto, lz4, none"),
    ({"scoped_credentials": "yes"}, "scoped_credentials of connection 'sky' is 'yes'. Expected one of auto, always, n"),
    ({"provisioner": "aws"}, "provisioner of connection 'sky' is 'aws'. Expected local (processes of the worker) or s"),
    ({"provisioner": "ssh"}, "provisioner of connection 'sky' is 'ssh'. Expected ssh with hosts"),
    ({"provisioner": "local", "hosts": "h"}, "provisioner of connection 'sky' is 'local'"),
    ({"max_instances": 4}, "unknown extra field max_instances. Known are budget_usd, compression"),
    ({"ssh_private_key": KEY}, "'sky' has an SSH key (private_key) and no hosts to use it for"),
    ({"hosts": "h", "ssh_private_key": KEY, "ssh_key_file": "/k"}, "has both ssh_key_file and ssh_private_key"),
]


@pytest.mark.parametrize(("extra", "told"), REFUSED, ids=str)
def test_what_it_may_not(extra: dict[str, Any], told: str) -> None:
    with pytest.raises(AirflowException) as refused:
        read(extra)
    assert told in str(refused.value)
    assert "Y2FuYXJ5" not in str(refused.value)
    assert SECRET not in str(refused.value)


def test_a_connection_of_another_type_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SKY", json.dumps({"conn_type": "aws", "password": SECRET}))
    for ask in (lambda: SkyplaneHook("sky").engine, lambda: SkyplaneHook("sky").reachable_later):
        with pytest.raises(
            AirflowException,
            match=r"Connection 'sky' is of type 'aws'\. Expected 'skyplane': name one",
        ):
            ask()
    assert SkyplaneHook("sky").test_connection()[0] is False


def test_arguments_come_before_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    described = {"conn_type": "skyplane", "password": SECRET, "extra": {"gateways": 2, "compression": "lz4"}}
    monkeypatch.setenv("AIRFLOW_CONN_SKY", json.dumps(described))
    hook = SkyplaneHook("sky", gateways=1, compression="none")
    assert (hook.gateways, hook.settings.compression) == (1, Compression.NONE)
    assert SkyplaneHook("sky").settings.compression is Compression.LZ4


@pytest.mark.parametrize("said", [*range(-1, 6), "2", "two", True, 1.5, math.nan])
def test_form_connection_and_arguments_have_one_rule_for_gateways(said: Any) -> None:
    schema = CONN_FIELDS["gateways"]["schema"]
    fits = str(said) in map(str, range(schema["minimum"], schema["maximum"] + 1))

    def refused(ask: Callable[[], Any]) -> str:
        try:
            ask()
        except (ValueError, AirflowException) as error:
            return str(error).partition("Expected")[2].rstrip(".")
        return ""

    told = {refused(lambda: SkyplaneHook(gateways=said)), refused(lambda: read({"gateways": said}))}
    assert told == ({""} if fits else {" one of 1, 2, 3"})


def test_gateways_and_hosts_contradict_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SKY", json.dumps({"conn_type": "skyplane", "extra": {"hosts": "a b"}}))
    assert SkyplaneHook("sky").gateways == 2
    with pytest.raises(AirflowException, match="gateways is 2, and connection 'sky' has hosts"):
        _ = SkyplaneHook("sky", gateways=2).engine


def test_the_engine_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"gateways": 2, "pool_mib": 64, "expiry_minutes": 3}
    monkeypatch.setenv("AIRFLOW_CONN_SKY", json.dumps({"conn_type": "skyplane", "password": SECRET, "extra": extra}))
    hook = SkyplaneHook("sky")
    assert isinstance(hook.engine, Engine)
    config = hook.engine.client.config
    assert (config.gateways, config.pool_bytes, config.expiry_seconds) == (2, 64 * MIB, 180.0)


@given(strategies.dictionaries(strategies.sampled_from(sorted(module._FIELDS)), strategies.from_type(object)))
def test_whatever_it_says_is_taken_or_refused_by_name(extra: dict[str, Any]) -> None:
    connection = types.SimpleNamespace(conn_id="sky", conn_type="skyplane", password=SECRET, extra_dejson=extra)
    try:
        told = str(Settings.of(connection, nobody))
    except AirflowException as refused:
        told = str(refused)
    assert "'sky'" in told or told.startswith("Settings(")


# --- the form ---------------------------------------------------------------------------------------------------------


def test_every_field_of_the_form_is_read_and_every_field_is_in_the_form() -> None:
    # Refused where it is a cloud's, and found by the hosts otherwise: nothing to choose.
    assert CONN_FIELDS.keys() == module._FIELDS - {"provisioner"}
    assert PLACEHOLDERS.keys() <= {"password", *CONN_FIELDS}
    (form,) = get_provider_info()["connection-types"]
    assert form["conn-fields"] is CONN_FIELDS


@pytest.mark.parametrize(("extra", "name", "value"), FIELDS, ids=str)
def test_what_the_form_takes_is_what_is_read(extra: dict[str, Any], name: str, value: Any) -> None:
    for field, said in extra.items():
        if field in CONN_FIELDS and not (isinstance(said, str) and "number" in str(CONN_FIELDS[field])):
            kinds = CONN_FIELDS[field]["schema"]["type"]
            typed = int(said) if "integer" in kinds and isinstance(said, str) and said.isdigit() else said
            if typed not in ("", "0.5"):
                jsonschema.validate(typed, {k: v for k, v in CONN_FIELDS[field]["schema"].items() if k != "format"})


class Made:
    """Stands for any class of WTForms and Flask-AppBuilder, which only Airflow 2 brings."""

    def __init__(self, *args: Any, **how: Any) -> None:
        self.args, self.how = args, how


@pytest.mark.parametrize("name", sorted(CONN_FIELDS))
def test_the_old_form_has_the_same_fields(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    kinds = {kind: type(kind, (Made,), {}) for kind in ("IntegerField", "PasswordField", "StringField")}
    looks = ("BS3PasswordFieldWidget", "BS3TextAreaFieldWidget", "BS3TextFieldWidget")
    for path, names in (
        ("wtforms", kinds),
        ("wtforms.validators", {"Optional": type("Optional", (Made,), {}), "any_of": Made}),
        ("flask_appbuilder", {}),
        ("flask_appbuilder.fieldwidgets", {look: type(look, (Made,), {}) for look in looks}),
    ):
        stand_in = types.ModuleType(path)
        vars(stand_in).update(names)
        monkeypatch.setitem(sys.modules, path, stand_in)
    made, field = widgets()[name], CONN_FIELDS[name]
    assert (made.how["label"], made.how["description"]) == (field["label"], field["description"])
    secret = field["schema"].get("format") == "password"
    assert (type(made).__name__ == "PasswordField") is secret is any(word in name for word in ("private", "phrase"))
    choices = [check.args[0] for check in made.how["validators"] if type(check) is Made]
    assert choices == ([field["schema"]["enum"]] if "enum" in field["schema"] else [])
    assert SkyplaneHook.get_connection_form_widgets().keys() == CONN_FIELDS.keys()
