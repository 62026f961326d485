"""Assets in stores whose URIs no other provider knows: ``az://account/container/key``, ``r2://`` and ``cos://bucket/key``.

Airflow imports this when a DAG file makes such an asset: nothing heavy may be loaded here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_skyplane.openlineage.naming import dataset_name
from skyplane_core.errors import InvalidURI
from skyplane_core.uri import parse

if TYPE_CHECKING:
    from urllib.parse import SplitResult


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """The URI as it is, if it names a place in a store.

    Raises:
        ValueError: it does not, and why.
    """
    try:
        parse(uri.geturl())
    except InvalidURI as error:
        raise ValueError(str(error)) from error
    return uri


def to_openlineage(asset: Any, lineage_context: Any) -> Any:
    """The dataset of an asset, named as those of the operators."""
    del lineage_context
    from airflow.providers.common.compat.openlineage.facet import Dataset

    return Dataset(*dataset_name(asset.uri))
