"""Names of datasets after OpenLineage's naming conventions, and Airflow's stock operators. Pure."""

from __future__ import annotations

from typing import NamedTuple

from skyplane_core.uri import Endpoint, parse

_ABFS = ("abfs://", "abfss://")
_SCHEMES = {"s3": "s3", "gcs": "gs"}


class DatasetName(NamedTuple):
    """As OpenLineage identifies a dataset."""

    namespace: str
    name: str


def dataset_name(uri: str) -> DatasetName:
    """The dataset of an object, or of all objects under a prefix: the same with and without a ``/`` at the end.

    A store that speaks S3 under a scheme of its own (``r2``, ``cos``) keeps that: a bucket of S3 may have its name.

    Raises:
        InvalidURI: it names nothing.
    """
    endpoint = parse(uri)
    if endpoint.kind == "local":
        return DatasetName("file", endpoint.key.rstrip("/") or "/")
    if endpoint.kind == "hdfs":
        return DatasetName(endpoint.endpoint_url, endpoint.key.rstrip("/") or "/")
    return DatasetName(_bucket(endpoint, uri), endpoint.key.strip("/") or "/")


def _bucket(endpoint: Endpoint, uri: str) -> str:
    if endpoint.kind == "azure":
        account, _, container = endpoint.bucket.partition("/")
        if uri.lower().startswith(_ABFS):
            return f"abfss://{container}@{account}.dfs.core.windows.net"
        # Without a host, as Airflow's own operators for Azure name it.
        return f"wasbs://{container}@{account}"
    return f"{endpoint.service or _SCHEMES[endpoint.kind]}://{endpoint.bucket}"
