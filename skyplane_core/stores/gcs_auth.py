"""From Google's credentials to a :class:`StoreConfig` that any machine can open.

google-auth is imported on first use.
"""

from __future__ import annotations

import os
from datetime import timezone
from typing import TYPE_CHECKING

from skyplane_core.errors import StoreUnavailable
from skyplane_core.model import Credentials, StoreConfig
from skyplane_core.stores.deadline import bounded
from skyplane_core.stores.gcs_errors import from_google
from skyplane_core.stores.http_data import parse_endpoint

if TYPE_CHECKING:
    from google.auth import credentials as google_credentials

SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
EMULATOR = "STORAGE_EMULATOR_HOST"
_DEADLINE = 45.0
_NOT_FOUND = "Your default credentials were not found"


def resolve(
    bucket: str,
    *,
    endpoint_url: str = "",
    project: str = "",
    credentials: Credentials | None = None,
    deadline: float = _DEADLINE,
) -> StoreConfig:
    """The config for ``bucket`` with application default credentials, turned into an access token.

    With ``STORAGE_EMULATOR_HOST`` set (and no ``endpoint_url``) that is the endpoint, without credentials; where there
    are no credentials at all, the store is anonymous. ``credentials`` are used instead if given. ``deadline`` (seconds)
    bounds the search and the token's refresh, which may talk to a metadata server that never answers.

    Raises:
        UsageError: the endpoint is no URL.
        Unauthenticated: there are credentials, and they do not give a token.
        StoreUnavailable: the token server cannot be reached, or the deadline passed.
        ModuleNotFoundError: google-auth is not installed.
    """
    emulator = os.environ.get(EMULATOR, "")
    if emulator and not endpoint_url:
        url = emulator if "://" in emulator else f"http://{emulator}"
        parse_endpoint(url, EMULATOR)
        return StoreConfig(kind="gcs", bucket=bucket, endpoint_url=url.rstrip("/"), project=project)
    if endpoint_url:
        parse_endpoint(endpoint_url)
    if credentials is not None:
        return StoreConfig(
            kind="gcs", bucket=bucket, endpoint_url=endpoint_url, project=project, credentials=credentials
        )
    return bounded(
        lambda: _from_environment(bucket, endpoint_url, project),
        deadline,
        StoreUnavailable(
            f"Google's credentials did not resolve within {deadline:.0f} s",
            where=f"gs://{bucket}",
            next_step="Set GOOGLE_APPLICATION_CREDENTIALS, or NO_GCE_CHECK=true where there is no metadata server.",
        ),
    )


def from_google_credentials(
    credentials: google_credentials.Credentials, bucket: str, *, endpoint_url: str = "", project: str = ""
) -> StoreConfig:
    """The config for ``bucket`` with ``credentials``, which are refreshed if they hold no valid token.

    Raises:
        Unauthenticated: they give no token.
        StoreUnavailable: the token server cannot be reached.
    """
    from google.auth import credentials as base
    from google.auth import exceptions
    from google.auth.transport import requests

    config = StoreConfig(kind="gcs", bucket=bucket, endpoint_url=endpoint_url, project=project)
    if isinstance(credentials, base.AnonymousCredentials):
        return config
    try:
        if not credentials.valid:
            credentials.refresh(requests.Request())
    except exceptions.GoogleAuthError as error:
        raise from_google(error, what="the Google credentials give no access token", where=config.uri) from error
    expiry = credentials.expiry
    # google-auth keeps naive datetimes that mean UTC.
    aware = expiry.replace(tzinfo=timezone.utc) if expiry is not None and expiry.tzinfo is None else expiry
    return StoreConfig(
        kind="gcs",
        bucket=bucket,
        endpoint_url=endpoint_url,
        project=project,
        credentials=Credentials(token=credentials.token or "", expires_at=aware.timestamp() if aware else None),
    )


def _from_environment(bucket: str, endpoint_url: str, project: str) -> StoreConfig:
    import google.auth
    from google.auth import exceptions

    try:
        credentials, found_project = google.auth.default(scopes=[SCOPE])
    except exceptions.DefaultCredentialsError as error:
        # The same class reports a broken credentials file, which must not become anonymous access.
        if not str(error).startswith(_NOT_FOUND):
            raise from_google(
                error, what="the application default credentials cannot be used", where=f"gs://{bucket}"
            ) from error
        return StoreConfig(kind="gcs", bucket=bucket, endpoint_url=endpoint_url, project=project)
    return from_google_credentials(
        credentials, bucket, endpoint_url=endpoint_url, project=project or str(found_project or "")
    )
