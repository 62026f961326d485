"""``gzip=True`` of the drop-in from Azure to GCS: the blob is compressed on the worker as it streams through it.

The engine copies bytes as they are, so this path uses the stock hooks and their SDKs. Memory: some tens of MiB,
whatever the size of the blob.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_skyplane.compat import AirflowException
from airflow_provider_skyplane.transfers.gzip_copy import TIMEOUT_SECONDS, UPLOAD_BYTES, GzipReader

if TYPE_CHECKING:
    from airflow_provider_skyplane.transfers.azure_blob_to_gcs import SkyplaneAzureBlobStorageToGCSOperator


def copy_compressed(operator: SkyplaneAzureBlobStorageToGCSOperator) -> None:
    """Store the operator's blob, compressed, under the name of its object.

    Raises:
        AirflowException: a provider is missing. What the SDKs raise passes.
    """
    try:
        from airflow.providers.google.cloud.hooks.gcs import GCSHook
        from airflow.providers.microsoft.azure.hooks.wasb import WasbHook
    except ImportError as error:
        raise AirflowException(
            "gzip=True compresses on the worker and needs apache-airflow-providers-microsoft-azure and "
            "apache-airflow-providers-google there."
        ) from error
    gcs = GCSHook(gcp_conn_id=operator.gcp_conn_id, impersonation_chain=operator.impersonation_chain)
    target = gcs.get_conn().bucket(operator.bucket_name).blob(operator.object_name, chunk_size=UPLOAD_BYTES)
    with WasbHook(wasb_conn_id=operator.wasb_conn_id).get_conn() as service:
        source = service.get_blob_client(operator.container_name, operator.blob_name).download_blob()
        target.upload_from_file(
            GzipReader(source.read), content_type="application/octet-stream", timeout=TIMEOUT_SECONDS
        )
    operator.log.info("%s is now gs://%s/%s", operator.blob_name, operator.bucket_name, operator.object_name)
