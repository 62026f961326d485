"""A GCS store's configuration from an Airflow Google Cloud connection. Heavy imports stay inside the functions."""

from __future__ import annotations

import datetime
import importlib.util
import json
import os
from collections.abc import Sequence
from typing import Any

from airflow_provider_skyplane.compat import AirflowException, BaseHook, mask_secret
from skyplane_core.model import Credentials, StoreConfig

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_ONLY_WITH_PROVIDER = ("key_secret_name", "credential_config_file", "idp_issuer_url")


def gcs_config(bucket: str, gcp_conn_id: str, *, impersonation_chain: str | Sequence[str] | None = None) -> StoreConfig:
    """The store behind ``bucket`` with a fresh access token of ``gcp_conn_id``.

    Without the google provider the connection is read directly: key file, impersonation, or the default credentials.
    ``STORAGE_EMULATOR_HOST`` names another endpoint, as for Google's own client.

    Raises:
        AirflowNotFoundException: there is no such connection.
        google.auth.exceptions.GoogleAuthError: the credentials cannot be obtained or refreshed.
    """
    if importlib.util.find_spec("airflow.providers.google") is None:
        credentials, project = _raw_credentials(gcp_conn_id, impersonation_chain)
    else:
        from airflow.providers.google.common.hooks.base_google import GoogleBaseHook

        hook = GoogleBaseHook(gcp_conn_id=gcp_conn_id, impersonation_chain=impersonation_chain)
        credentials, project = hook.get_credentials_and_project_id()
    endpoint = os.environ.get("STORAGE_EMULATOR_HOST", "")
    if endpoint and "://" not in endpoint:
        endpoint = f"http://{endpoint}"
    return StoreConfig(
        kind="gcs",
        bucket=bucket,
        endpoint_url=endpoint,
        project=project or "",
        credentials=_token(credentials),
    )


def _token(credentials: Any) -> Credentials:
    from google.auth.credentials import AnonymousCredentials

    if isinstance(credentials, AnonymousCredentials):
        return Credentials()
    # A token that is nearly spent would have to be renewed before the first byte moved.
    if not credentials.valid or _remaining(credentials) < 600:
        from google.auth.transport.requests import Request

        credentials.refresh(Request())
    mask_secret(credentials.token)
    return Credentials(token=credentials.token, expires_at=_expiry(credentials))


def _expiry(credentials: Any) -> float | None:
    # google-auth keeps expiry as a naive datetime in UTC.
    if credentials.expiry is None:
        return None
    return float(credentials.expiry.replace(tzinfo=datetime.timezone.utc).timestamp())


def _remaining(credentials: Any) -> float:
    expiry = _expiry(credentials)
    if expiry is None:
        return float("inf")
    return expiry - datetime.datetime.now(tz=datetime.timezone.utc).timestamp()


def _raw_credentials(gcp_conn_id: str, chain: str | Sequence[str] | None) -> tuple[Any, str | None]:
    import google.auth
    from google.auth.credentials import AnonymousCredentials
    from google.oauth2 import service_account

    extra = _extra(gcp_conn_id)
    project = extra.get("project")
    if extra.get("is_anonymous"):
        return AnonymousCredentials(), project
    needs_provider = [field for field in _ONLY_WITH_PROVIDER if extra.get(field)]
    if needs_provider:
        raise AirflowException(
            f"Google Cloud connection {gcp_conn_id!r} uses {', '.join(needs_provider)}, which only the google "
            "provider understands. Install apache-airflow-providers-google."
        )
    keyfile = extra.get("keyfile_dict")
    credentials: Any
    if keyfile:
        info = json.loads(keyfile) if isinstance(keyfile, str) else keyfile
        credentials = service_account.Credentials.from_service_account_info(info, scopes=[SCOPE])
        project = project or info.get("project_id")
    elif extra.get("key_path"):
        credentials = service_account.Credentials.from_service_account_file(extra["key_path"], scopes=[SCOPE])
        project = project or credentials.project_id
    else:
        credentials, found = google.auth.default(scopes=[SCOPE])
        project = project or found
    return _impersonated(credentials, chain or extra.get("impersonation_chain")), project


def _extra(gcp_conn_id: str) -> dict[str, Any]:
    old_prefix = "extra__google_cloud_platform__"
    extra = BaseHook.get_connection(gcp_conn_id).extra_dejson
    return {key.removeprefix(old_prefix): value for key, value in extra.items()}


def _impersonated(credentials: Any, chain: str | Sequence[str] | None) -> Any:
    if not chain:
        return credentials
    from google.auth import impersonated_credentials

    accounts = [part.strip() for part in chain.split(",")] if isinstance(chain, str) else list(chain)
    return impersonated_credentials.Credentials(
        source_credentials=credentials,
        target_principal=accounts[-1],
        delegates=accounts[:-1],
        target_scopes=[SCOPE],
    )
