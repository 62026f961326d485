"""What Airflow reads about this provider. Plain data, so that discovery imports nothing of ours but this module."""

from __future__ import annotations

from typing import Any

from skyplane_core import __version__

CONNECTION_TYPE = "skyplane"
HOOK_CLASS = "airflow_provider_skyplane.hooks.skyplane.SkyplaneHook"


def _modules(*names: str) -> list[dict[str, Any]]:
    return [{"integration-name": "Skyplane", "python-modules": list(names)}]


def get_provider_info() -> dict[str, Any]:
    """Metadata after ``airflow/provider_info.schema.json``."""
    return {
        "package-name": "airflow-provider-skyplane",
        "name": "Skyplane",
        "description": "Move bulk data between clouds: parallel, verified, resumable, encrypted end to end.",
        "versions": [__version__],
        "integrations": [
            {"integration-name": "Skyplane", "external-doc-url": "https://skyplane.org", "tags": ["service"]}
        ],
        "hooks": _modules("airflow_provider_skyplane.hooks.skyplane"),
        "operators": _modules(
            "airflow_provider_skyplane.operators.skyplane", "airflow_provider_skyplane.operators.deprovision"
        ),
        "sensors": _modules("airflow_provider_skyplane.sensors.skyplane"),
        "triggers": _modules(
            "airflow_provider_skyplane.triggers.skyplane",
            "airflow_provider_skyplane.triggers.sync_sensor",
            "airflow_provider_skyplane.triggers.transfer_sensor",
            "airflow_provider_skyplane.triggers.work",
        ),
        "transfers": [
            {
                "source-integration-name": "Amazon Simple Storage Service (S3)",
                "target-integration-name": "Google Cloud Storage (GCS)",
                "python-module": "airflow_provider_skyplane.transfers.s3_to_gcs",
            }
        ],
        "connection-types": [
            {
                "connection-type": CONNECTION_TYPE,
                "hook-class-name": HOOK_CLASS,
                "hook-name": "Skyplane",
                "ui-field-behaviour": {
                    "hidden-fields": ["host", "schema", "login", "port"],
                    "relabeling": {"password": "Control secret"},
                    "placeholders": {"password": "32 or more random characters; clients derive their identity from it"},
                },
                "conn-fields": {
                    "gateways": {
                        "label": "Gateways",
                        "description": "1: read and write in one gateway; 2: encrypted and compressed between two.",
                        "schema": {"type": ["integer", "null"], "default": 1, "minimum": 1},
                    },
                },
            }
        ],
        "config": {
            "skyplane": {
                "description": "Defaults of the Skyplane operators.",
                "options": {
                    "local_gateways_outlive_task": {
                        "description": (
                            "True where processes that a task starts live on after it has deferred, as on a host with "
                            "LocalExecutor or long-lived Celery workers. Only then may a task that uses local "
                            "gateways defer; otherwise it runs to its end on the worker."
                        ),
                        "version_added": "0.1.0",
                        "type": "boolean",
                        "example": None,
                        "default": "False",
                    },
                },
            }
        },
    }
