"""A drop-in for the Azure provider's ``GCSToAzureBlobStorageOperator``. Imports no cloud provider and no SDK."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_skyplane.transfers.drop_in import OWN_TEMPLATE_FIELDS, IncrementalDropIn
from airflow_provider_skyplane.transfers.duplicates import warn_of_duplicates
from airflow_provider_skyplane.transfers.gcs_ends import gcs_source
from airflow_provider_skyplane.transfers.wasb import container, dataset, made_by, refuse_empty, uri
from skyplane_core.spec import KeyMapping, MappingKind, ReceiptLine, Selection

if TYPE_CHECKING:
    from airflow_provider_skyplane.engine import Location, Request
    from skyplane_core.model import StoreConfig

_NO_MARKERS = "*[!/]"


class SkyplaneGCSToAzureBlobStorageOperator(IncrementalDropIn):
    """Synchronizes a Google Cloud Storage prefix with a container, in parallel, verified, without temporary files.

    Takes every argument of the stock ``GCSToAzureBlobStorageOperator`` with the same meaning and default;
    ``docs/migrating-azure.md`` lists where it differs on purpose. What is new is opt-in: the arguments of
    :class:`~airflow_provider_skyplane.transfers.drop_in.IncrementalDropIn`. Returns the names of the blobs that this
    run wrote, in the order of the objects that they are copies of.

    Raises:
        ValueError: at construction, for an argument that cannot be right.
    """

    template_fields: Sequence[str] = (
        "gcs_bucket",
        "prefix",
        "blob_prefix",
        "container_name",
        "google_impersonation_chain",
        "gcp_user_project",
        "match_glob",
        "gcp_conn_id",
        "wasb_conn_id",
        *OWN_TEMPLATE_FIELDS,
    )
    ui_color = "#f0eee4"
    destination_service = "Azure Blob Storage"

    def __init__(
        self,
        *,
        gcs_bucket: str,
        container_name: str,
        blob_prefix: str = "",
        prefix: str | None = None,
        gcp_conn_id: str = "google_cloud_default",
        google_impersonation_chain: str | Sequence[str] | None = None,
        wasb_conn_id: str = "wasb_default",
        replace: bool = False,
        keep_directory_structure: bool = True,
        flatten_structure: bool = False,
        match_glob: str | None = None,
        gcp_user_project: str | None = None,
        create_container: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(replace=replace, **kwargs)
        self.gcs_bucket = gcs_bucket
        self.prefix = prefix
        self.gcp_conn_id = gcp_conn_id
        self.google_impersonation_chain = google_impersonation_chain
        self.container_name = container_name
        self.blob_prefix = blob_prefix
        self.wasb_conn_id = wasb_conn_id
        self.keep_directory_structure = keep_directory_structure
        self.flatten_structure = flatten_structure
        self.match_glob = match_glob
        self.gcp_user_project = gcp_user_project
        self.create_container = create_container
        if flatten_structure and keep_directory_structure:
            self.log.warning("flatten_structure=True takes precedence over keep_directory_structure=True")

    def _check(self) -> None:
        refuse_empty(self, "gcs_bucket", "container_name")

    def _request(self) -> Request:
        from airflow_provider_skyplane.engine import Location, Request

        directory = self._directory()
        kind = MappingKind.FLATTEN if self.flatten_structure else MappingKind.APPEND
        return Request(
            source=self._source,
            destination=lambda: Location(
                container(self.hook, self.container_name, self.wasb_conn_id, written=True), directory
            ),
            options=self._options(),
            selection=Selection(self.prefix or "", glob=_NO_MARKERS),
            mapping=KeyMapping(kind, "", directory, first_wins=True),
            create_container=self._made if self.create_container else None,
            receipt=self._receipt(
                uri(self.container_name, self.wasb_conn_id),
                {"azure": self.wasb_conn_id, "gcs": self.gcp_conn_id},
                self.google_impersonation_chain,
            ),
        )

    def _made(self) -> StoreConfig:
        return made_by(self.hook, self.container_name, self.wasb_conn_id)

    def _directory(self) -> str:
        """What names are appended to."""
        path = self.blob_prefix or ""
        if self.prefix and not self.keep_directory_structure and not self.flatten_structure:
            path = posixpath.join(path, self.prefix)
        return path if not path or path.endswith("/") else f"{path}/"

    def _source(self) -> Location:
        return gcs_source(
            self.hook,
            self.gcs_bucket,
            self.gcp_conn_id,
            self.google_impersonation_chain,
            prefix=self.prefix or "",
            match_glob=self.match_glob,
            user_project=self.gcp_user_project,
        )

    def _told(self, lines: Sequence[ReceiptLine]) -> None:
        if self.flatten_structure:
            warn_of_duplicates(self.log, lines)

    def _names(self, copied: Sequence[ReceiptLine]) -> list[str]:
        return [line.destination_key for line in copied]

    def get_openlineage_facets_on_start(self) -> Any:
        """The same datasets as the stock operator's."""
        from airflow.providers.common.compat.openlineage.facet import Dataset
        from airflow.providers.openlineage.extractors import OperatorLineage

        return OperatorLineage(
            inputs=[Dataset(namespace=f"gs://{self.gcs_bucket}", name=self.prefix or "/")],
            outputs=[dataset(self.container_name, self.wasb_conn_id, self.blob_prefix or "/")],
        )


GCSToAzureBlobStorageOperator = SkyplaneGCSToAzureBlobStorageOperator
"""The stock operator's name, so that a DAG changes by one import line."""
