"""What Airflow is told about the provider is what Airflow accepts, and names things that exist."""

from __future__ import annotations

import importlib
import json
from importlib.metadata import distribution
from pathlib import Path

import airflow
import jsonschema
import pytest

from airflow_provider_skyplane.get_provider_info import get_provider_info

INFO = get_provider_info()


def test_it_satisfies_airflows_schema() -> None:
    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())
    jsonschema.validate(INFO, schema)


def test_the_package_name_is_the_distributions() -> None:
    assert distribution(INFO["package-name"]).metadata["Name"] == INFO["package-name"]


def _modules() -> list[str]:
    groups = [group for kind in ("hooks", "operators", "sensors", "triggers") for group in INFO[kind]]
    return [m for group in groups for m in group["python-modules"]] + [t["python-module"] for t in INFO["transfers"]]


@pytest.mark.parametrize("module", _modules())
def test_every_named_module_can_be_imported(module: str) -> None:
    importlib.import_module(module)


def test_every_decorator_can_be_imported() -> None:
    for decorator in INFO["task-decorators"]:
        module, _, name = decorator["class-name"].rpartition(".")
        assert callable(getattr(importlib.import_module(module), name))


def test_the_connection_type_is_the_hooks() -> None:
    (connection,) = INFO["connection-types"]
    module, _, name = connection["hook-class-name"].rpartition(".")
    hook = getattr(importlib.import_module(module), name)
    assert hook.conn_type == connection["connection-type"]
    assert hook.hook_name == connection["hook-name"]


def test_every_option_has_a_default() -> None:
    for option in INFO["config"]["skyplane"]["options"].values():
        assert option["default"] is not None
