"""An Azure container's configuration from an Airflow connection of type ``wasb`` or ``adls``.

Read directly, field by field as the stock hooks do: azure-identity is all that it takes, and that only where tokens are
asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from airflow_provider_skyplane.compat import AirflowException, BaseHook, mask_secret
from airflow_provider_skyplane.hooks.azure_scope import container_sas
from airflow_provider_skyplane.hooks.scopes import Scope
from skyplane_core.model import Credentials, StoreConfig
from skyplane_core.stores.azure_auth import (
    account_in,
    account_key,
    from_connection_string,
    sas_token,
    token_of,
    with_credentials,
)
from skyplane_core.stores.azure_sign import divide, split_host

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

DEFAULT_CONN_ID = "wasb_default"
_OLD_PREFIXES = ("extra__wasb__", "extra__adls__")


def account_of(azure_conn_id: str) -> str:
    """The storage account that a connection is for, as far as it says so itself.

    Raises:
        AirflowNotFoundException: there is no such connection.
        AirflowException: it names none.
        UsageError: its connection string is malformed.
    """
    connection = BaseHook.get_connection(azure_conn_id)
    extra = _extra(connection)
    if text := extra.get("connection_string"):
        account = account_in(text, name=f"connection_string of connection {azure_conn_id!r}")
    else:
        host = str(connection.host or "")
        login = "" if extra.get("tenant_id") else str(connection.login or "")
        # A machine or a private endpoint says nothing about accounts, unless its path does, as an emulator's.
        path = urlsplit(_url(host)).path.strip("/")
        said = (split_host(_url(host)), split_host(extra.get("sas_token", "")), login, path)
        account = next(filter(None, (*said, host if host.isalnum() else "")), "")
    if not account:
        raise AirflowException(
            f"Connection {azure_conn_id!r} names no storage account. Put the account's URL into its host, or the "
            "account's name into its login."
        )
    return account


def azure_config(
    bucket: str, azure_conn_id: str, *, endpoint_url: str = "", anonymous: bool = False, scope: Scope | None = None
) -> StoreConfig:
    """The container ``account/container`` with the credentials of ``azure_conn_id``.

    They are the first that the connection has of: ``connection_string``, ``shared_access_key``, ``tenant_id`` with a
    client's id and secret (login, password), ``sas_token``, the account's key (password), else azure-identity's default
    chain, with the connection's ``managed_identity_client_id`` and ``workload_identity_tenant_id``.

    ``endpoint_url`` wins over the connection's. With a ``scope`` a key or a token is exchanged for a signature that is
    good for no more; where that cannot be had they are used themselves, and the log says so.

    Args:
        anonymous: leave them all out; the connection says only where the account is.

    Raises:
        AirflowNotFoundException: there is no such connection.
        AirflowException: it is another account's.
        UsageError: one of its fields is malformed.
        StoreError: it gives no token.
    """
    config = _own(bucket, azure_conn_id, anonymous=anonymous)
    if endpoint_url:
        config = msgspec.structs.replace(config, endpoint_url=endpoint_url)
    return config if scope is None else container_sas(config, scope)


def _own(bucket: str, azure_conn_id: str, *, anonymous: bool) -> StoreConfig:
    connection = BaseHook.get_connection(azure_conn_id)
    extra = _extra(connection)
    account, _ = divide(bucket)
    if text := extra.get("connection_string"):
        found = from_connection_string(text, bucket, name=f"connection_string of connection {azure_conn_id!r}")
        if found is None:
            raise _another_account(azure_conn_id, account)
        return with_credentials(found, Credentials()) if anonymous else _masked(found)
    config = StoreConfig(kind="azure", bucket=bucket, endpoint_url=_endpoint(connection, account))
    named = split_host(_url(connection.host)) if connection.host else ""
    # With a tenant the login is a client's id; otherwise it is the account, if it is anything.
    whose = named or ("" if extra.get("tenant_id") else str(connection.login or ""))
    if whose and whose != account:
        raise _another_account(azure_conn_id, account, whose)
    if anonymous:
        return config
    return _masked(with_credentials(config, _credentials(connection, extra, config, account)))


def _credentials(connection: Any, extra: dict[str, Any], config: StoreConfig, account: str) -> Credentials:
    conn_id = connection.conn_id
    if text := extra.get("shared_access_key"):
        return _key_or_sas(account, text, f"shared_access_key of connection {conn_id!r}")
    if tenant := extra.get("tenant_id"):
        from azure.identity import ClientSecretCredential

        options = extra.get("client_secret_auth_config") or {}
        return _token(ClientSecretCredential(tenant, connection.login, connection.password, **options), config)
    if text := extra.get("sas_token"):
        # The stock hook takes a whole address, too.
        return sas_token(text.rpartition("?")[2], f"sas_token of connection {conn_id!r}")
    if connection.password:
        return _key_or_sas(account, connection.password, f"the password of connection {conn_id!r}")
    from azure.identity import DefaultAzureCredential

    options = {
        name: extra[name] for name in ("managed_identity_client_id", "workload_identity_tenant_id") if extra.get(name)
    }
    return _token(DefaultAzureCredential(**options), config)


def _token(credential: TokenCredential, config: StoreConfig) -> Credentials:
    try:
        return token_of(credential, config.uri)
    finally:
        credential.close()


def _key_or_sas(account: str, text: str, name: str) -> Credentials:
    return sas_token(text, name) if "sig=" in text else account_key(account, text, name)


def _masked(config: StoreConfig) -> StoreConfig:
    credentials = config.credentials
    for secret in (credentials.secret_key, credentials.sas, credentials.token):
        if secret:
            mask_secret(secret)
    return config


def _endpoint(connection: Any, account: str) -> str:
    """The endpoint that the connection's host names; empty for the account's own in the public cloud."""
    if not connection.host:
        return ""
    url = urlsplit(_url(connection.host))
    own = (f"{account}.blob.core.windows.net", f"{account}.dfs.core.windows.net")
    if url.hostname in own or (url.hostname == account and "." not in account):
        return ""
    port = f":{connection.port}" if connection.port and url.port is None else ""
    host = url.netloc.replace(".dfs.", ".blob.", 1)
    return f"{url.scheme}://{host}{port}{url.path.rstrip('/')}"


def _url(host: str) -> str:
    return host if "://" in host else f"https://{host}"


def _extra(connection: Any) -> dict[str, Any]:
    found = connection.extra_dejson
    for prefix in _OLD_PREFIXES:
        found = {name.removeprefix(prefix): value for name, value in found.items()}
    return {name: value for name, value in found.items() if value not in (None, "")}


def _another_account(conn_id: str, account: str, whose: str = "another one") -> AirflowException:
    return AirflowException(
        f"Connection {conn_id!r} is for the storage account {whose}, and the URI names {account!r}. "
        "Name the connection of that account."
    )
