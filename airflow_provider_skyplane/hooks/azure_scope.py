"""A shared access signature for one container instead of an account's key or a token that is good for more."""

from __future__ import annotations

import datetime
import importlib.util
import logging
from typing import Any

import msgspec

from airflow_provider_skyplane.compat import mask_secret
from airflow_provider_skyplane.hooks.scopes import Scope, azure_permissions
from skyplane_core.model import Credentials, StoreConfig
from skyplane_core.stores.azure_auth import sas_token
from skyplane_core.stores.azure_sign import address, divide

log = logging.getLogger(__name__)

SAS_LIFETIME = datetime.timedelta(hours=12)


def container_sas(config: StoreConfig, scope: Scope) -> StoreConfig:
    """``config`` with a signature for its container, or as it is where there is none to be had.

    An account's key signs it here; for a token the account is asked for a key that signs in the token's name.
    """
    given = config.credentials
    if not (given.secret_key or given.token):
        return config
    if importlib.util.find_spec("azure.storage") is None:
        log.warning("Credentials for %s are not narrowed: azure-storage-blob is not installed.", config.uri)
        return config
    from azure.core.exceptions import AzureError

    try:
        signed = _signed(config, scope)
    except AzureError as error:
        log.warning("Credentials for %s are not narrowed, the connection's own are used: %s", config.uri, error)
        return config
    mask_secret(signed)
    return msgspec.structs.replace(config, credentials=sas_token(signed, "what was signed"))


def _signed(config: StoreConfig, scope: Scope) -> str:
    from azure.storage.blob import generate_container_sas

    account, container = divide(config.bucket)
    now = datetime.datetime.now(tz=datetime.timezone.utc)
    # No start: clocks differ.
    expiry = now + SAS_LIFETIME
    given = config.credentials
    how: dict[str, Any] = (
        {"account_key": given.secret_key}
        if given.secret_key
        else {"user_delegation_key": _delegation_key(config, given, now, expiry)}
    )
    return str(
        generate_container_sas(
            account,
            container,
            permission=azure_permissions(scope),
            expiry=expiry,
            protocol="https" if _account_url(config).startswith("https:") else None,
            **how,
        )
    )


def _delegation_key(config: StoreConfig, given: Credentials, start: Any, expiry: Any) -> Any:
    from azure.core.credentials import AccessToken
    from azure.storage.blob import BlobServiceClient

    class Given:
        def get_token(self, *_scopes: str, **_options: Any) -> AccessToken:
            return AccessToken(given.token, int(given.expires_at or expiry.timestamp()))

    with BlobServiceClient(_account_url(config), credential=Given(), connection_verify=config.verify) as client:
        return client.get_user_delegation_key(start - datetime.timedelta(minutes=15), expiry)


def _account_url(config: StoreConfig) -> str:
    found = address(config)
    return found.endpoint_url + found.path.rpartition("/")[0]
