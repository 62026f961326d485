"""A drop-in for the Google provider's ``S3ToGCSOperator``. Imports no cloud provider and no SDK at parse time."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_skyplane.compat import conf
from airflow_provider_skyplane.hooks.scopes import Scope
from airflow_provider_skyplane.transfers.drop_in import OWN_TEMPLATE_FIELDS, IncrementalDropIn
from airflow_provider_skyplane.transfers.gcs_ends import gcs_destination
from airflow_provider_skyplane.transfers.gcs_url import check_directory, dataset_name, split_gcs_url
from skyplane_core.spec import KeyMapping, MappingKind, ReceiptLine, Selection

if TYPE_CHECKING:
    from airflow_provider_skyplane.compat import Context
    from airflow_provider_skyplane.engine import Request

# The stock operator's own words, so that a filter on this warning goes on working.
_RETURN_GCS_URIS_WARNING = (
    "S3ToGCSOperator currently returns a list of S3 object keys to preserve backward "
    "compatibility. This default will change in a future release: the operator will return "
    "a list of destination 'gs://' URIs instead. Pass 'return_gcs_uris=True' to opt into "
    "the new behavior now and silence this warning."
)


class SkyplaneS3ToGCSOperator(IncrementalDropIn):
    """Synchronizes an S3 prefix with a Google Cloud Storage path, in parallel, verified and without temporary files.

    Takes every argument of the stock ``S3ToGCSOperator`` with the same meaning and default; ``docs/s3-to-gcs.md`` lists
    where it differs on purpose. What is new is opt-in:

    Args:
        compare: what makes an existing object count as there already, with ``replace=False``: its ``name`` (as the
            stock operator), its ``size``, or ``exact``: the recorded source version or the same checksum.
        preserve_metadata: carry content headers and user metadata over; otherwise every object arrives as
            ``application/octet-stream`` without any, as with the stock operator.
        return_summary: return a small dict of counts, as SkyplaneOperator does, instead of a list that grows with what
            was copied.

    ``skyplane_conn_id``, ``gateways``, ``compression``, ``receipt_url``, ``receipt_path``, ``receipt_conn_id`` and
    ``local_gateways_outlive_task`` are those of :class:`SkyplaneBaseOperator`. Returns the keys of the objects that
    this run copied, sorted (``[]`` if none), or their ``gs://`` URIs with ``return_gcs_uris=True``.

    Raises:
        ValueError: at construction, for an argument that cannot be right.
    """

    template_fields: Sequence[str] = (
        "bucket",
        "prefix",
        "delimiter",
        "dest_gcs",
        "google_impersonation_chain",
        "gcp_conn_id",
        "aws_conn_id",
        *OWN_TEMPLATE_FIELDS,
    )
    ui_color = "#e09411"
    destination_service = "Google Cloud Storage"

    def __init__(
        self,
        *,
        bucket: str,
        prefix: str = "",
        apply_gcs_prefix: bool = False,
        delimiter: str = "",
        aws_conn_id: str | None = "aws_default",
        verify: bool | str | None = None,
        gcp_conn_id: str = "google_cloud_default",
        dest_gcs: str | None = None,
        replace: bool = False,
        gzip: bool = False,
        google_impersonation_chain: str | Sequence[str] | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: float = 10,
        return_gcs_uris: bool = False,
        apply_wildcard: bool = False,
        region_name: str | None = None,
        region: str | None = None,
        botocore_config: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(replace=replace, deferrable=deferrable, poll_interval=poll_interval, **kwargs)
        self.bucket = bucket
        self.prefix = prefix
        self.apply_gcs_prefix = apply_gcs_prefix
        self.delimiter = delimiter
        self.aws_conn_id = aws_conn_id
        self.verify = verify
        self.gcp_conn_id = gcp_conn_id
        self.dest_gcs = dest_gcs
        self.gzip = gzip
        self.google_impersonation_chain = google_impersonation_chain
        self.return_gcs_uris = return_gcs_uris
        self.apply_wildcard = apply_wildcard
        self.region_name = region_name or region
        self.botocore_config = botocore_config
        self._check_gzip()
        if not return_gcs_uris and not self.return_summary:
            warnings.warn(_RETURN_GCS_URIS_WARNING, FutureWarning, stacklevel=2)

    def _check_gzip(self) -> None:
        if self.gzip and (self.compare != "name" or self.preserve_metadata):
            raise ValueError(
                "gzip=True stores other bytes than the source's; compare and preserve_metadata need gzip=False"
            )
        if self.gzip and (self.receipt_url or self.receipt_path or self.return_summary):
            raise ValueError("gzip=True copies on this worker and leaves no receipt; receipts need gzip=False")

    def execute(self, context: Context) -> Any:
        """Copy what has to be copied and return its keys or URIs, or defer and let execute_complete do so."""
        if self.gzip:
            self._check()
            return self._gzip_on_worker()
        return super().execute(context)

    def _check(self) -> None:
        if self.dest_gcs:
            check_directory(self.dest_gcs)

    def _request(self) -> Request:
        from airflow_provider_skyplane.engine import Location, Request

        bucket, gcs_prefix = split_gcs_url(self.dest_gcs)
        selection = self._selection()
        return Request(
            source=lambda: Location(
                self.hook.s3(
                    self.bucket,
                    self.aws_conn_id,
                    scope=Scope(self.bucket, selection.prefix),
                    region_name=self.region_name,
                    verify=self.verify,
                    botocore_config=self.botocore_config,
                ),
                selection.prefix,
            ),
            destination=lambda: Location(
                gcs_destination(self.hook, bucket, self.gcp_conn_id, self.google_impersonation_chain), gcs_prefix
            ),
            options=self._options(),
            selection=selection,
            mapping=self._mapping(gcs_prefix),
            receipt=self._receipt(
                f"gs://{bucket}",
                {"gcs": self.gcp_conn_id, "s3": self.aws_conn_id},
                self.google_impersonation_chain,
            ),
        )

    def _wildcard(self) -> bool:
        return self.apply_wildcard and "*" in (self.prefix or "")

    def _selection(self) -> Selection:
        prefix = self.prefix or ""
        return Selection(
            prefix=prefix.split("*", 1)[0] if self._wildcard() else prefix,
            delimiter=self.delimiter or "",
            glob=prefix if self._wildcard() else "",
            drop_covered_markers=True,
        )

    def _mapping(self, gcs_prefix: str) -> KeyMapping:
        prefix = self.prefix or ""
        if not self.apply_gcs_prefix:
            return KeyMapping(MappingKind.APPEND, prefix, gcs_prefix)
        if self._wildcard():
            # The stock operator replaces the pattern as if it were text, which occurs in no key: keys stay as they are.
            return KeyMapping(MappingKind.APPEND, prefix, "")
        return KeyMapping(MappingKind.REPLACE, prefix, gcs_prefix)

    def _names(self, copied: Sequence[ReceiptLine]) -> list[str]:
        if not self.return_gcs_uris:
            return [line.key for line in copied]
        bucket, _ = split_gcs_url(self.dest_gcs)
        return [f"gs://{bucket}/{line.destination_key}" for line in copied]

    def _gzip_on_worker(self) -> list[str]:
        from airflow_provider_skyplane.transfers.gzip_copy import GzipCopy

        if self.deferrable:
            self.log.warning("gzip=True compresses on this worker; deferrable=True has no effect.")
        copied = GzipCopy(self).run()
        if self.return_gcs_uris:
            bucket, _ = split_gcs_url(self.dest_gcs)
            return [f"gs://{bucket}/{self.s3_to_gcs_object(key)}" for key in copied]
        return copied

    def s3_to_gcs_object(self, s3_object: str) -> str:
        """Where an S3 key goes: ``<gcs_prefix><key>``, or the prefix replaced with ``apply_gcs_prefix``."""
        _, gcs_prefix = split_gcs_url(self.dest_gcs)
        return s3_object.replace(self.prefix, gcs_prefix, 1) if self.apply_gcs_prefix else gcs_prefix + s3_object

    def gcs_to_s3_object(self, gcs_object: str) -> str:
        """Which S3 key an object at the destination stands for; the inverse of :meth:`s3_to_gcs_object`."""
        _, gcs_prefix = split_gcs_url(self.dest_gcs)
        s3_object = gcs_object.replace(gcs_prefix, "", 1)
        return self.prefix + s3_object if self.apply_gcs_prefix else s3_object

    def get_openlineage_facets_on_start(self) -> Any:
        """The same datasets as the stock operator's."""
        from airflow.providers.common.compat.openlineage.facet import Dataset
        from airflow.providers.openlineage.extractors import OperatorLineage

        bucket, path = split_gcs_url(self.dest_gcs)
        if not self.apply_gcs_prefix:
            path += self.prefix
        return OperatorLineage(
            inputs=[Dataset(namespace=f"s3://{self.bucket}", name=self.prefix.strip("/") or "/")],
            outputs=[Dataset(namespace=f"gs://{bucket}", name=dataset_name(path))],
        )


S3ToGCSOperator = SkyplaneS3ToGCSOperator
"""The stock operator's name, so that a DAG changes by one import line."""
