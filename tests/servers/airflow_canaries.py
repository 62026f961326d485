"""Connections whose every secret is a canary, for the whole Airflow of the tests: none may come to light."""

from __future__ import annotations

import base64
import json
import secrets

_MARK = secrets.token_hex(8)


def _canary(name: str) -> str:
    return f"canary-{name}-{_MARK}-{'x' * 16}"


CONTROL, AWS_KEY, AWS_TOKEN, PASSPHRASE, SIGNATURE = map(_canary, ("control", "key", "token", "pass", "sig"))
BLOB_KEY = base64.b64encode(_canary("blob").encode()).decode()
PRIVATE_KEY = f"-----BEGIN OPENSSH PRIVATE KEY-----{base64.b64encode(_canary('ssh').encode()).decode()}-----END"
GOOGLE_KEY = _canary("google")
CANARIES = (
    *(CONTROL, AWS_KEY, AWS_TOKEN, PASSPHRASE, SIGNATURE, BLOB_KEY, GOOGLE_KEY),
    base64.b64encode(_canary("ssh").encode()).decode(),
)


def canary_connections(s3_url: str) -> dict[str, str]:
    """As variables of the environment. Those named ``bad`` cannot be used, and every task that tries says why."""
    paths = {"s3": {"addressing_style": "path"}}
    described = {
        "canary_aws": {
            "conn_type": "aws",
            "login": "AKIACANARY",
            "password": AWS_KEY,
            "extra": {
                "aws_session_token": AWS_TOKEN,
                "endpoint_url": s3_url,
                "region_name": "us-east-1",
                "config_kwargs": paths,
            },
        },
        "canary_skyplane": {
            "conn_type": "skyplane",
            "password": CONTROL,
            "extra": {"gateways": 2, "pool_mib": 64, "scoped_credentials": "always"},
        },
        "canary_bad_ssh": {
            "conn_type": "skyplane",
            "password": CONTROL,
            "extra": {"hosts": "u@127.0.0.1:1", "ssh_private_key": PRIVATE_KEY, "ssh_passphrase": PASSPHRASE},
        },
        "canary_bad_blob": {
            "conn_type": "wasb",
            "login": "account1",
            "password": BLOB_KEY,
            "extra": {"sas_token": f"sv=2026-02-06&se=never&sig={SIGNATURE}"},
        },
        "canary_bad_google": {
            "conn_type": "google_cloud_platform",
            "extra": {"keyfile_dict": '{"private_key": "' + GOOGLE_KEY},
        },
    }
    return {f"AIRFLOW_CONN_{conn_id.upper()}": json.dumps(fields) for conn_id, fields in described.items()}
