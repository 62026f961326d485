"""From an environment's or a connection's secrets to a :class:`StoreConfig` that any machine can open.

azure-identity is imported when tokens are asked for: whoever is given a key, a SAS token or a config needs no SDK.
"""

from __future__ import annotations

import os
from datetime import datetime, timezone
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from skyplane_core.errors import StoreUnavailable, Unauthenticated, UsageError
from skyplane_core.model import Credentials, StoreConfig
from skyplane_core.stores.azure_errors import from_identity
from skyplane_core.stores.azure_sign import divide, is_account_key, plain_endpoint, split_host
from skyplane_core.stores.deadline import bounded
from skyplane_core.stores.http_data import parse_endpoint

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

SCOPE = "https://storage.azure.com/.default"
CONNECTION_STRING = "AZURE_STORAGE_CONNECTION_STRING"
_DEADLINE = 45.0
_NEXT = (
    "Set AZURE_STORAGE_KEY, AZURE_STORAGE_SAS_TOKEN or AZURE_STORAGE_CONNECTION_STRING, or log in with az login; "
    "AZURE_TOKEN_CREDENTIALS=prod leaves out what asks a developer's tools."
)
# The storage emulator's, the same everywhere: https://learn.microsoft.com/azure/storage/common/storage-use-azurite
_DEVELOPMENT = {
    "AccountName": "devstoreaccount1",
    "AccountKey": "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
    "BlobEndpoint": "http://127.0.0.1:10000/devstoreaccount1",
}


def resolve(
    bucket: str,
    *,
    endpoint_url: str = "",
    verify: bool | str = True,
    credentials: Credentials | None = None,
    deadline: float = _DEADLINE,
) -> StoreConfig:
    """The config for ``account/container`` with the environment's credentials for that account.

    In this order: a connection string, a key, a SAS token (each unless it, or ``AZURE_STORAGE_ACCOUNT`` beside it,
    names another account), azure-identity's default chain (a service principal, a workload or managed identity,
    ``az login``). Where that finds nothing the store is anonymous.

    Args:
        endpoint_url: else the connection string's, else the account's own.
        credentials: else those of the environment.
        deadline: seconds for the default chain, which may ask a metadata server that never answers.

    Raises:
        UsageError: the endpoint or the connection string is none.
        Unauthenticated: there are credentials, and they do not give a token.
        StoreUnavailable: the token server cannot be reached, or the deadline passed.
        ModuleNotFoundError: azure-identity is not installed.
    """
    account, _ = divide(bucket)
    if endpoint_url:
        _check_endpoint(endpoint_url, "endpoint_url")
    endpoint_url = plain_endpoint(endpoint_url, account)
    config = StoreConfig(kind="azure", bucket=bucket, endpoint_url=endpoint_url, verify=verify)
    if credentials is not None:
        return with_credentials(config, credentials)
    if text := os.environ.get(CONNECTION_STRING, ""):
        found = from_connection_string(text, bucket, name=CONNECTION_STRING)
        if found is not None:
            return StoreConfig(
                kind="azure",
                bucket=bucket,
                endpoint_url=endpoint_url or found.endpoint_url,
                verify=verify,
                credentials=found.credentials,
            )
    if os.environ.get("AZURE_STORAGE_ACCOUNT", account) == account:
        if key := os.environ.get("AZURE_STORAGE_KEY", ""):
            return with_credentials(config, account_key(account, key, "AZURE_STORAGE_KEY"))
        if sas := os.environ.get("AZURE_STORAGE_SAS_TOKEN", ""):
            return with_credentials(config, sas_token(sas, "AZURE_STORAGE_SAS_TOKEN"))
    late = StoreUnavailable(
        f"Azure's credentials did not resolve within {deadline:.0f} s", where=config.uri, next_step=_NEXT
    )
    return with_credentials(config, bounded(lambda: _default(config.uri), deadline, late))


def with_credentials(config: StoreConfig, credentials: Credentials) -> StoreConfig:
    """``config`` with other credentials."""
    return StoreConfig(
        kind="azure",
        bucket=config.bucket,
        endpoint_url=config.endpoint_url,
        verify=config.verify,
        credentials=credentials,
    )


def account_key(account: str, key: str, name: str) -> Credentials:
    """The credentials that an account's key is.

    Args:
        name: where the key comes from, for the message.

    Raises:
        UsageError: it is not base64.
    """
    key = key.strip()
    if not is_account_key(key):
        raise UsageError(
            f"{name} is not the key of a storage account",
            where=f"az://{account}",
            why="it is not base64",
            next_step="Copy it from the portal, or from: az storage account keys list.",
        )
    return Credentials(access_key=account, secret_key=key)


def sas_token(text: str, name: str) -> Credentials:
    """The credentials that a SAS token is; its own expiry is theirs.

    Raises:
        UsageError: it has no signature, or has characters that no query has.
    """
    sas = text.strip().removeprefix("?")
    values = parse_qs(sas)
    if "sig" not in values or not sas.isascii() or not sas.isprintable() or " " in sas or "#" in sas:
        raise UsageError(f"{name} is not a SAS token", next_step="It begins like sv=…, and has a sig=….")
    expiry = values.get("se", [""])[0]
    try:
        moment = datetime.fromisoformat(expiry.replace("Z", "+00:00")) if expiry else None
    except ValueError as error:
        raise UsageError(f"the expiry of the SAS token in {name} is no time", why=expiry) from error
    if moment is not None and moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return Credentials(sas=sas, expires_at=moment.timestamp() if moment else None)


def from_connection_string(text: str, bucket: str, *, name: str) -> StoreConfig | None:
    """The config that a storage account's connection string gives; None if it is another account's.

    Args:
        name: where the string comes from, for messages, which never show it.

    Raises:
        UsageError: it is none.
    """
    account, _ = divide(bucket)
    values = _parse_connection_string(text, name)
    endpoint = values.get("BlobEndpoint", "").rstrip("/")
    if endpoint:
        _check_endpoint(endpoint, f"BlobEndpoint in {name}")
    whose = _whose(values)
    if whose and whose != account:
        return None
    suffix = values.get("EndpointSuffix", "")
    if not endpoint and suffix not in ("", "core.windows.net"):
        protocol = values.get("DefaultEndpointsProtocol", "https")
        endpoint = f"{protocol}://{account}.blob.{suffix}"
        _check_endpoint(endpoint, f"EndpointSuffix in {name}")
    if key := values.get("AccountKey"):
        credentials = account_key(account, key, f"AccountKey in {name}")
    elif sas := values.get("SharedAccessSignature"):
        credentials = sas_token(sas, f"SharedAccessSignature in {name}")
    else:
        credentials = Credentials()
    endpoint = plain_endpoint(endpoint, account)
    return StoreConfig(kind="azure", bucket=bucket, endpoint_url=endpoint, credentials=credentials)


def account_in(text: str, *, name: str) -> str:
    """The account that a storage account's connection string names, or nothing.

    Args:
        name: where the string comes from, for the message.

    Raises:
        UsageError: it is none.
    """
    return _whose(_parse_connection_string(text, name))


def token_of(credential: TokenCredential, where: str) -> Credentials:
    """A fresh access token of one of azure-identity's credentials.

    Raises:
        Unauthenticated: it gives none.
        StoreUnavailable: nobody answers.
    """
    from azure.core.exceptions import AzureError

    try:
        token = credential.get_token(SCOPE)
    except AzureError as error:
        raise from_identity(error, where=where) from error
    return Credentials(token=token.token, expires_at=float(token.expires_on))


def _default(where: str) -> Credentials:
    from azure.identity import CredentialUnavailableError, DefaultAzureCredential

    with DefaultAzureCredential() as chain:
        # The chain as a whole raises one error, whether some credentials were refused or there are none.
        for credential in chain.credentials:
            try:
                return token_of(credential, where)
            except Unauthenticated as error:
                if not isinstance(error.__cause__, CredentialUnavailableError):
                    raise
    return Credentials()


def _whose(values: dict[str, str]) -> str:
    return values.get("AccountName") or split_host(values.get("BlobEndpoint", ""))


def _parse_connection_string(text: str, name: str) -> dict[str, str]:
    pairs = [item.partition("=") for item in text.strip().split(";") if item]
    values = {key.strip(): value.strip() for key, _, value in pairs}
    if values.get("UseDevelopmentStorage", "").lower() == "true":
        return _DEVELOPMENT
    if not ({"AccountName", "BlobEndpoint"} & values.keys()):
        raise UsageError(
            f"{name} is not a storage account's connection string",
            next_step="It begins like DefaultEndpointsProtocol=https;AccountName=….",
        )
    return values


def _check_endpoint(endpoint_url: str, name: str) -> None:
    url = parse_endpoint(endpoint_url, name)
    if url.query or url.fragment:
        raise UsageError(
            f"{name} has a query",
            where=urlsplit(endpoint_url)._replace(query="", fragment="").geturl(),
            next_step="Give a SAS token as AZURE_STORAGE_SAS_TOKEN, or in the connection.",
        )
