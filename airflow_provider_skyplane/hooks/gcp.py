"""A GCS store's configuration from an Airflow Google Cloud connection. Heavy imports stay inside the functions."""

from __future__ import annotations

import datetime
import importlib.util
import json
import logging
import os
from collections.abc import Sequence
from typing import Any

from airflow_provider_skyplane.compat import AirflowException, BaseHook, mask_secret
from airflow_provider_skyplane.hooks.scopes import Scope, gcs_boundary
from skyplane_core.model import Credentials, StoreConfig

log = logging.getLogger(__name__)

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_ONLY_WITH_PROVIDER = ("key_secret_name", "credential_config_file", "idp_issuer_url")
_PLAIN = {"is_anonymous", "keyfile_dict", "num_retries", "project"}
"""Fields that come out the same with or without the google provider, whose import takes 0.25 s."""


def gcs_config(
    bucket: str,
    gcp_conn_id: str,
    *,
    impersonation_chain: str | Sequence[str] | None = None,
    endpoint_url: str = "",
    scope: Scope | None = None,
) -> StoreConfig:
    """The store behind ``bucket`` with a fresh access token of ``gcp_conn_id``.

    A connection that is anonymous or has its key inside, and any connection where the google provider is not installed,
    is read directly; without the provider that is a key file, impersonation, or the default credentials.
    ``STORAGE_EMULATOR_HOST`` names another endpoint, as for Google's own client, unless ``endpoint_url`` does.

    With a ``scope`` the token is exchanged for one that is good for no more. Where Google refuses that, the
    connection's own is used, and the log says so.

    Raises:
        AirflowNotFoundException: there is no such connection.
        google.auth.exceptions.GoogleAuthError: the credentials cannot be obtained or refreshed.
    """
    extra = _extra(gcp_conn_id)
    if is_plain(extra, impersonation_chain) or importlib.util.find_spec("airflow.providers.google") is None:
        credentials, project = raw_credentials(gcp_conn_id, extra, impersonation_chain)
    else:
        credentials, project = provider_credentials(gcp_conn_id, impersonation_chain)
    endpoint = endpoint_url or os.environ.get("STORAGE_EMULATOR_HOST", "")
    if endpoint and "://" not in endpoint:
        endpoint = f"http://{endpoint}"
    return StoreConfig(
        kind="gcs",
        bucket=bucket,
        endpoint_url=endpoint,
        project=project or "",
        credentials=_token(credentials) if scope is None or endpoint else _bound(credentials, scope),
    )


def _bound(credentials: Any, scope: Scope) -> Credentials:
    """The token of ``credentials``, bound to ``scope``; their own where Google gives out none."""
    own = _token(credentials)
    if own.anonymous:
        return own
    from google.auth import downscoped
    from google.auth.exceptions import GoogleAuthError

    rules = [downscoped.AccessBoundaryRule(resource, allowed) for resource, allowed in gcs_boundary(scope)]
    try:
        return _token(downscoped.Credentials(credentials, downscoped.CredentialAccessBoundary(rules)))
    except GoogleAuthError as error:
        log.warning("Credentials for gs://%s are not narrowed, the connection's own are used: %s", scope.bucket, error)
        return own


def _token(credentials: Any) -> Credentials:
    """The access token of google-auth's credentials; None stands for anonymous ones."""
    if credentials is None:
        return Credentials()
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


def provider_credentials(gcp_conn_id: str, chain: str | Sequence[str] | None) -> tuple[Any, str | None]:
    """google-auth's credentials and the project, by the google provider's own hook."""
    from airflow.providers.google.common.hooks.base_google import GoogleBaseHook

    credentials, project = GoogleBaseHook(
        gcp_conn_id=gcp_conn_id, impersonation_chain=chain
    ).get_credentials_and_project_id()
    return credentials, project


def is_plain(extra: dict[str, Any], chain: str | Sequence[str] | None) -> bool:
    """Whether a connection needs nothing that only the google provider can do."""
    given = {name for name, value in extra.items() if value not in (None, "")}
    return not chain and given <= _PLAIN and ("keyfile_dict" in given or extra.get("is_anonymous") is True)


def raw_credentials(
    gcp_conn_id: str, extra: dict[str, Any], chain: str | Sequence[str] | None
) -> tuple[Any, str | None]:
    """As :func:`provider_credentials` without the provider; credentials of None are anonymous."""
    project = extra.get("project")
    if extra.get("is_anonymous"):
        return None, project
    import google.auth
    from google.oauth2 import service_account

    needs_provider = [field for field in _ONLY_WITH_PROVIDER if extra.get(field)]
    if needs_provider:
        raise AirflowException(
            f"Google Cloud connection {gcp_conn_id!r} uses {', '.join(needs_provider)}, which only the google "
            "provider understands. Install apache-airflow-providers-google."
        )
    keyfile = extra.get("keyfile_dict")
    credentials: Any
    if keyfile:
        info = _key_info(gcp_conn_id, keyfile)
        credentials = service_account.Credentials.from_service_account_info(info, scopes=[SCOPE])
        project = project or info.get("project_id")
    elif extra.get("key_path"):
        credentials = service_account.Credentials.from_service_account_file(extra["key_path"], scopes=[SCOPE])
        project = project or credentials.project_id
    else:
        credentials, found = google.auth.default(scopes=[SCOPE])
        project = project or found
    return _impersonated(credentials, chain or extra.get("impersonation_chain")), project


def _key_info(gcp_conn_id: str, keyfile: str | dict[str, Any]) -> dict[str, Any]:
    try:
        info: dict[str, Any] = json.loads(keyfile) if isinstance(keyfile, str) else dict(keyfile)
    except ValueError as error:
        raise AirflowException(f"Google Cloud connection {gcp_conn_id!r}: keyfile_dict is no JSON: {error}") from None
    # Forms and environment variables tend to escape the key's line breaks once more.
    info["private_key"] = info.get("private_key", "").replace("\\n", "\n")
    return info


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
