"""Buckets of Google Cloud Storage as the stock operators' arguments name them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from airflow_provider_skyplane.hooks.scopes import Scope

if TYPE_CHECKING:
    from airflow_provider_skyplane.engine import Location
    from airflow_provider_skyplane.hooks.skyplane import SkyplaneHook
    from skyplane_core.model import StoreConfig


def gcs_source(
    hook: SkyplaneHook,
    bucket: str,
    gcp_conn_id: str,
    impersonation_chain: str | Sequence[str] | None,
    *,
    prefix: str = "",
    match_glob: str | None = None,
    user_project: str | None = None,
    moved: bool = False,
) -> Location:
    """What is under ``prefix``, with fresh credentials of the connection.

    Args:
        match_glob: list only names that GCS itself matches with it.
        user_project: pays for the requests.
        moved: what is copied is deleted there.
    """
    from airflow_provider_skyplane.engine import Location

    # Whoever pays needs a right on a project, which no bound token can carry.
    scope = None if user_project else Scope(bucket, prefix, moves=moved)
    store = hook.gcs(bucket, gcp_conn_id, impersonation_chain, scope=scope)
    if user_project:
        store = msgspec.structs.replace(store, project=user_project, requester_pays=True)
    return Location(msgspec.structs.replace(store, match_glob=match_glob or ""), prefix)


def gcs_destination(
    hook: SkyplaneHook,
    bucket: str,
    gcp_conn_id: str,
    impersonation_chain: str | Sequence[str] | None,
    *,
    copies_from: str = "",
) -> StoreConfig:
    """The bucket that is written, with fresh credentials of the connection.

    Args:
        copies_from: the bucket of the source, if that is in GCS, too.
    """
    scope = Scope(bucket, writes=True, copies_from=copies_from)
    return hook.gcs(bucket, gcp_conn_id, impersonation_chain, scope=scope)
