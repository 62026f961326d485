"""Parsing a DAG that uses our operators loads no cloud SDK, no cloud provider, no gateway and no engine client."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = (
    "boto3",
    "botocore",
    "google.cloud",
    "google.auth",
    "airflow.providers.google",
    "airflow.providers.amazon",
    "airflow.providers.microsoft",
    "azure",
    "gateway",
    "skyplane_core.client",
    "cryptography",
    "httpx",
)
DROP_INS = ", ".join(
    f"airflow_provider_skyplane.transfers.{name}"
    for name in (
        "azure_blob_to_gcs",
        "azure_blob_to_s3",
        "gcs_to_gcs",
        "gcs_to_s3",
        "gcs_to_wasb",
        "s3_copy_object",
        "s3_to_wasb",
    )
)
PROBE = """
import json, sys
import airflow.providers.common.compat.sdk as sdk
sdk.BaseOperator, sdk.BaseHook, sdk.conf, sdk.AirflowException, sdk.AirflowNotFoundException, sdk.mask_secret
before = set(sys.modules)
import {module}
print(json.dumps(sorted(set(sys.modules) - before)))
"""


@pytest.mark.parametrize(
    "module",
    [
        "airflow_provider_skyplane.transfers.s3_to_gcs",
        "airflow_provider_skyplane.operators.plan",
        "airflow_provider_skyplane.decorators.skyplane",
        DROP_INS,
        "airflow_provider_skyplane.operators.skyplane",
        "airflow_provider_skyplane.hooks.skyplane",
        "airflow_provider_skyplane.sensors.skyplane",
    ],
)
def test_importing_an_operator_loads_nothing_heavy(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(module=module)], capture_output=True, text=True, timeout=120, check=True
    )
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert set(module.split(", ")) <= set(loaded)
    heavy = [name for name in loaded if any(name == bad or name.startswith(f"{bad}.") for bad in HEAVY)]
    assert heavy == []
