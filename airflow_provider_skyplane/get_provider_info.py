"""What Airflow reads about this provider. Plain data, so that discovery imports nothing of ours but this module."""

from __future__ import annotations

from typing import Any

from skyplane_core import __version__

CONNECTION_TYPE = "skyplane"
HOOK_CLASS = "airflow_provider_skyplane.hooks.skyplane.SkyplaneHook"
PLACEHOLDERS = {
    "password": "32 or more random characters; clients derive their identity from it",
    "hosts": "ubuntu@198.51.100.7, one a line",
    "budget_usd": "25",
}


def _field(label: str, description: str, kind: str, **schema: Any) -> dict[str, Any]:
    return {"label": label, "description": description, "schema": {"type": [kind, "null"], **schema}}


MAX_GATEWAYS = 3
"""On the worker: a reader, a relay and a writer."""

CONN_FIELDS: dict[str, dict[str, Any]] = {
    "gateways": _field(
        "Gateways",
        "Processes of the worker. 1 reads and writes; 2: encrypted and compressed between two; 3: with a relay. "
        "Of no use beside hosts, each of which is one gateway.",
        "integer",
        minimum=1,
        maximum=MAX_GATEWAYS,
    ),
    "hosts": _field(
        "SSH hosts",
        "Machines that become the gateways: user@address[:port], one a line, or JSON with more settings for each, "
        'such as [{"conn_id": "ssh_reader", "role": "reader"}]. They outlive the task.',
        "string",
        format="multiline",
    ),
    "ssh_private_key": _field(
        "SSH private key", "PEM or OpenSSH, for hosts without one of their own.", "string", format="password"
    ),
    "ssh_key_file": _field("SSH key file", "Path of that key on workers and triggerers, instead.", "string"),
    "ssh_passphrase": _field("SSH passphrase", "Opens the SSH key.", "string", format="password"),
    "pool_mib": _field(
        "Buffer pool (MiB)",
        "Of each gateway, whose memory is this and about 150 MiB. Default: 512.",
        "integer",
        minimum=1,
    ),
    "expiry_minutes": _field(
        "Expiry (minutes)", "After so long without a transfer a gateway ends itself. Default: 15.", "number"
    ),
    "compression": _field(
        "Compression",
        "Between gateways, where the task does not say. Default: auto.",
        "string",
        enum=["auto", "lz4", "none"],
    ),
    "budget_usd": _field(
        "Budget (USD)",
        "The most that one transfer may cost by list prices, as far as they are known. Compared before it starts.",
        "number",
    ),
    "scoped_credentials": _field(
        "Scoped credentials",
        "Credentials of gateways that are good for their end of a transfer alone. auto (default): where a role is "
        "assumed; always: wherever the cloud can; never.",
        "string",
        enum=["auto", "always", "never"],
    ),
}
"""The form of a ``skyplane`` connection. Each field is one of :class:`hooks.settings.Settings`."""


def _modules(*names: str) -> list[dict[str, Any]]:
    return [{"integration-name": "Skyplane", "python-modules": list(names)}]


_S3 = "Amazon Simple Storage Service (S3)"
_GCS = "Google Cloud Storage (GCS)"
_AZURE = "Microsoft Azure Blob Storage"
_ASSETS = {
    # Of stores that no other provider speaks for; s3, gs and file are known already.
    "schemes": ["az", "r2", "cos"],
    "handler": "airflow_provider_skyplane.assets.sanitize_uri",
    "to_openlineage_converter": "airflow_provider_skyplane.assets.to_openlineage",
}


def _transfer(source: str, target: str, module: str) -> dict[str, str]:
    return {
        "source-integration-name": source,
        "target-integration-name": target,
        "python-module": f"airflow_provider_skyplane.transfers.{module}",
    }


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
            "airflow_provider_skyplane.operators.skyplane",
            "airflow_provider_skyplane.operators.plan",
            "airflow_provider_skyplane.operators.deprovision",
        ),
        "sensors": _modules("airflow_provider_skyplane.sensors.skyplane"),
        "triggers": _modules(
            "airflow_provider_skyplane.triggers.skyplane",
            "airflow_provider_skyplane.triggers.sync_sensor",
            "airflow_provider_skyplane.triggers.transfer_sensor",
            "airflow_provider_skyplane.triggers.work",
        ),
        "task-decorators": [
            {"name": "skyplane", "class-name": "airflow_provider_skyplane.decorators.skyplane.skyplane_task"}
        ],
        "transfers": [
            _transfer(_S3, _GCS, "s3_to_gcs"),
            _transfer(_AZURE, _GCS, "azure_blob_to_gcs"),
            _transfer(_AZURE, _S3, "azure_blob_to_s3"),
            _transfer(_S3, _AZURE, "s3_to_wasb"),
            _transfer(_GCS, _AZURE, "gcs_to_wasb"),
            _transfer(_GCS, _S3, "gcs_to_s3"),
            _transfer(_GCS, _GCS, "gcs_to_gcs"),
            _transfer(_S3, _S3, "s3_copy_object"),
        ],
        # Airflow before 3.0 looks for the latter.
        "asset-uris": [_ASSETS],
        "dataset-uris": [_ASSETS],
        "extra-links": ["airflow_provider_skyplane.links.report.SkyplaneReportLink"],
        "connection-types": [
            {
                "connection-type": CONNECTION_TYPE,
                "hook-class-name": HOOK_CLASS,
                "hook-name": "Skyplane",
                "ui-field-behaviour": {
                    "hidden-fields": ["host", "schema", "login", "port"],
                    "relabeling": {"password": "Control secret"},
                    "placeholders": PLACEHOLDERS,
                },
                "conn-fields": CONN_FIELDS,
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
