"""A drop-in for the Google provider's ``AzureBlobStorageToGCSOperator``. Loads no cloud provider at parse time."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_skyplane.transfers.drop_in import OWN_TEMPLATE_FIELDS, SkyplaneDropIn
from airflow_provider_skyplane.transfers.gcs_ends import gcs_destination
from airflow_provider_skyplane.transfers.wasb import container, dataset, refuse_empty
from skyplane_core.model import Compression
from skyplane_core.spec import KeyMapping, MappingKind, ReceiptLine, Selection, TransferOptions

if TYPE_CHECKING:
    from airflow_provider_skyplane.compat import Context
    from airflow_provider_skyplane.engine import Request

# The stock operator's own words, so that a filter on this warning goes on working.
_UNWRAP_WARNING = (
    "The default value of `unwrap_single` will change from True to False in a future release. "
    "Please set `unwrap_single` explicitly to avoid this warning."
)


class SkyplaneAzureBlobStorageToGCSOperator(SkyplaneDropIn):
    """Copies one blob to Google Cloud Storage: in parts, verified, and neither through memory nor a temporary file.

    Takes every argument of the stock ``AzureBlobStorageToGCSOperator`` with the same meaning and default;
    ``docs/migrating-azure.md`` lists where it differs on purpose. What is new is opt-in:

    Args:
        preserve_metadata: carry content headers and user metadata over; otherwise the object arrives as
            ``application/octet-stream`` without any, as with the stock operator.

    The others are those of :class:`~airflow_provider_skyplane.transfers.drop_in.SkyplaneDropIn`. Returns the object's
    ``gs://`` URI, in a list with ``unwrap_single=False``.

    Raises:
        ValueError: at construction, for arguments that contradict each other.
    """

    template_fields: Sequence[str] = (
        "blob_name",
        "container_name",
        "bucket_name",
        "object_name",
        "filename",
        "wasb_conn_id",
        "gcp_conn_id",
        *OWN_TEMPLATE_FIELDS,
    )
    destination_service = "Google Cloud Storage"

    def __init__(
        self,
        *,
        wasb_conn_id: str = "wasb_default",
        gcp_conn_id: str = "google_cloud_default",
        blob_name: str,
        container_name: str,
        bucket_name: str,
        object_name: str,
        filename: str,
        gzip: bool,
        impersonation_chain: str | Sequence[str] | None = None,
        unwrap_single: bool | None = None,
        preserve_metadata: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.wasb_conn_id = wasb_conn_id
        self.gcp_conn_id = gcp_conn_id
        self.blob_name = blob_name
        self.container_name = container_name
        self.bucket_name = bucket_name
        self.object_name = object_name
        self.filename = filename
        self.gzip = gzip
        self.impersonation_chain = impersonation_chain
        self.unwrap_single = True if unwrap_single is None else unwrap_single
        self.preserve_metadata = preserve_metadata
        if gzip and preserve_metadata:
            raise ValueError("gzip=True stores other bytes than the source's; preserve_metadata needs gzip=False")
        if gzip and (self.receipt_url or self.receipt_path or self.return_summary):
            raise ValueError("gzip=True copies on this worker and leaves no receipt; receipts need gzip=False")
        if unwrap_single is None and not self.return_summary:
            warnings.warn(_UNWRAP_WARNING, FutureWarning, stacklevel=2)

    def execute(self, context: Context) -> Any:
        """Copy the blob and return its URI, or defer and let execute_complete do so."""
        if not self.gzip:
            return super().execute(context)
        from airflow_provider_skyplane.transfers.gzip_blob import copy_compressed

        self._check()
        if self.deferrable:
            self.log.warning("gzip=True compresses on this worker; deferrable=True has no effect.")
        copy_compressed(self)
        return self._uri()

    def _check(self) -> None:
        refuse_empty(self, "container_name", "blob_name", "bucket_name", "object_name")

    def _request(self) -> Request:
        from airflow_provider_skyplane.engine import Location, Request

        return Request(
            source=lambda: Location(container(self.hook, self.container_name, self.wasb_conn_id), self.blob_name),
            destination=lambda: Location(
                gcs_destination(self.hook, self.bucket_name, self.gcp_conn_id, self.impersonation_chain),
                self.object_name,
            ),
            recursive=False,
            options=TransferOptions(
                compression=Compression(self.compression),
                keep_attributes=self.preserve_metadata,
                record_source=False,
            ),
            selection=Selection(self.blob_name, single=True),
            # Not OBJECT: the object gets exactly this name, also if it ends in a slash.
            mapping=KeyMapping(MappingKind.REPLACE, self.blob_name, self.object_name),
            receipt=self._receipt(
                f"gs://{self.bucket_name}",
                {"gcs": self.gcp_conn_id, "azure": self.wasb_conn_id},
                self.impersonation_chain,
            ),
        )

    def _names(self, copied: Sequence[ReceiptLine]) -> str | list[str]:  # noqa: ARG002  # there is but one
        return self._uri()

    def _uri(self) -> str | list[str]:
        uri = f"gs://{self.bucket_name}/{self.object_name}"
        return uri if self.unwrap_single else [uri]

    def get_openlineage_facets_on_start(self) -> Any:
        """The same datasets as the stock operator's."""
        from airflow.providers.common.compat.openlineage.facet import Dataset
        from airflow.providers.openlineage.extractors import OperatorLineage

        return OperatorLineage(
            inputs=[dataset(self.container_name, self.wasb_conn_id, self.blob_name)],
            outputs=[Dataset(namespace=f"gs://{self.bucket_name}", name=self.object_name)],
        )


AzureBlobStorageToGCSOperator = SkyplaneAzureBlobStorageToGCSOperator
"""The stock operator's name, so that a DAG changes by one import line."""
