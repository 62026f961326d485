"""Containers as the stock Azure operators name them: without their account, which the connection tells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_skyplane.compat import AirflowException
from airflow_provider_skyplane.hooks.scopes import Scope

if TYPE_CHECKING:
    from airflow_provider_skyplane.hooks.skyplane import SkyplaneHook
    from skyplane_core.model import StoreConfig

_PUBLIC_READ = "public_read"


def container(
    hook: SkyplaneHook, container_name: str, wasb_conn_id: str, *, written: bool = False, public_read: bool = False
) -> StoreConfig:
    """The container of this name in the connection's account, as one end of a transfer.

    Args:
        written: it is the destination; otherwise its credentials may be good for reading alone.
        public_read: use none of the connection's credentials.

    Raises:
        AirflowException: the connection names no account.
    """
    from airflow_provider_skyplane.hooks.azure import azure_config

    bucket = _bucket(container_name, wasb_conn_id)
    if public_read:
        return azure_config(bucket, wasb_conn_id, anonymous=True)
    return hook.azure(bucket, wasb_conn_id, scope=Scope(bucket, writes=written))


def made_by(hook: SkyplaneHook, container_name: str, wasb_conn_id: str) -> StoreConfig:
    """The container with the connection's own credentials: those for what is in it cannot make it."""
    return hook.azure(_bucket(container_name, wasb_conn_id), wasb_conn_id)


def uri(container_name: str, wasb_conn_id: str) -> str:
    """The container's URI; asks for no credentials."""
    return f"az://{_bucket(container_name, wasb_conn_id)}"


def public_read(wasb_extra_args: Mapping[str, Any] | None) -> bool:
    """What the arguments for the stock hook say: whether the container is read without credentials.

    Raises:
        TypeError: an argument that the stock hook does not know either.
    """
    given = dict(wasb_extra_args or {})
    public = bool(given.pop(_PUBLIC_READ, False))
    if given:
        raise TypeError(f"wasb_extra_args has {', '.join(sorted(given))}; the stock hook knows only {_PUBLIC_READ}")
    return public


def dataset(container_name: str, wasb_conn_id: str, name: str) -> Any:
    """The OpenLineage dataset that the stock operators name."""
    from airflow.providers.common.compat.openlineage.facet import Dataset

    account, _, _ = _bucket(container_name, wasb_conn_id).partition("/")
    return Dataset(namespace=f"wasbs://{container_name}@{account}", name=name)


def refuse_empty(operator: object, *names: str) -> None:
    """Refuse arguments without a value, before anything is asked or started.

    Raises:
        AirflowException: naming the first of them.
    """
    for name in names:
        if not getattr(operator, name):
            raise AirflowException(f"{name} is empty. Check what its template was rendered to.")


def _bucket(container_name: str, wasb_conn_id: str) -> str:
    from airflow_provider_skyplane.hooks.azure import account_of

    return f"{account_of(wasb_conn_id)}/{container_name}"
