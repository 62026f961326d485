"""A bucket of Google Cloud Storage as the stock operators' arguments name it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from airflow_provider_skyplane.engine import Location
    from airflow_provider_skyplane.hooks.skyplane import SkyplaneHook


def gcs_source(
    hook: SkyplaneHook,
    bucket: str,
    gcp_conn_id: str,
    impersonation_chain: str | Sequence[str] | None,
    *,
    prefix: str = "",
    match_glob: str | None = None,
    user_project: str | None = None,
) -> Location:
    """What is under ``prefix``, with fresh credentials of the connection.

    Args:
        match_glob: list only names that GCS itself matches with it.
        user_project: pays for the requests.
    """
    from airflow_provider_skyplane.engine import Location

    store = hook.gcs(bucket, gcp_conn_id, impersonation_chain)
    if user_project:
        store = msgspec.structs.replace(store, project=user_project, requester_pays=True)
    return Location(msgspec.structs.replace(store, match_glob=match_glob or ""), prefix)
