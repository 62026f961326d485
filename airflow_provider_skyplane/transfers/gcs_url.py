"""The stock operator's reading of a ``gs://`` URL, with its errors to the letter. Pure."""

from __future__ import annotations

import pathlib
import posixpath
from urllib.parse import urlsplit

from airflow_provider_skyplane.compat import AirflowException


def split_gcs_url(url: str | None) -> tuple[str, str]:
    """Bucket and prefix; leading slashes of the prefix are dropped.

    Raises:
        AirflowException: no bucket, or another scheme than ``gs``.
    """
    parts = urlsplit(url or "")
    if not parts.netloc:
        raise AirflowException("Please provide a bucket name")
    if parts.scheme.lower() != "gs":
        raise AirflowException(f"Schema must be to 'gs://': Current schema: '{parts.scheme}://'")
    return parts.netloc, parts.path.lstrip("/")


def check_directory(url: str | None) -> None:
    """Refuse a destination that is not a whole bucket or a prefix that ends in ``/``.

    Raises:
        AirflowException: see :func:`split_gcs_url`; or the prefix does not end in ``/``.
    """
    _, prefix = split_gcs_url(url)
    if prefix and not prefix.endswith("/"):
        raise AirflowException('The destination Google Cloud Storage path must end with a slash "/" or be empty.')


def dataset_name(path: str) -> str:
    """The OpenLineage dataset's name of a prefix: its directory, or the file where the last segment has a dot in it."""
    path = path.split("*", maxsplit=1)[0]
    if "." not in posixpath.basename(path).rstrip(".") and not path.endswith("/"):
        path = pathlib.PurePosixPath(path).parent.as_posix()
    name = path.strip("/")
    return "/" if name in ("", ".") else name
