"""A drop-in for the Amazon provider's ``GCSToS3Operator``. Imports no cloud provider and no SDK at parse time."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_skyplane.hooks.scopes import Scope
from airflow_provider_skyplane.transfers.drop_in import OWN_TEMPLATE_FIELDS, IncrementalDropIn
from airflow_provider_skyplane.transfers.duplicates import warn_of_duplicates
from airflow_provider_skyplane.transfers.gcs_ends import gcs_source
from airflow_provider_skyplane.transfers.s3_extra_args import Written, written
from airflow_provider_skyplane.transfers.s3_url import split_s3_url
from skyplane_core.spec import KeyMapping, MappingKind, ReceiptLine, Selection

if TYPE_CHECKING:
    from airflow_provider_skyplane.engine import Location, Request


class SkyplaneGCSToS3Operator(IncrementalDropIn):
    """Synchronizes a Google Cloud Storage prefix with an S3 path, in parallel, verified and without temporary files.

    Takes every argument of the stock ``GCSToS3Operator`` with the same meaning and default; ``docs/migrating.md`` lists
    where it differs on purpose. What is new is opt-in: ``compare``, ``preserve_metadata`` (:class:`IncrementalDropIn`),
    ``return_summary`` (:class:`SkyplaneDropIn`), ``deferrable`` and the other arguments of
    :class:`SkyplaneBaseOperator`. Returns the names of the objects that this run copied, sorted (``[]`` if none).

    Raises:
        UsageError: at construction, for extra arguments that cannot be followed.
        ValueError: at construction, for another argument that cannot be right.
    """

    template_fields: Sequence[str] = (
        "gcs_bucket",
        "prefix",
        "dest_s3_key",
        "google_impersonation_chain",
        "gcp_user_project",
        "match_glob",
        "gcp_conn_id",
        "dest_aws_conn_id",
        *OWN_TEMPLATE_FIELDS,
    )
    ui_color = "#f0eee4"
    destination_service = "S3"

    def __init__(
        self,
        *,
        gcs_bucket: str,
        prefix: str | None = None,
        gcp_conn_id: str = "google_cloud_default",
        dest_aws_conn_id: str | None = "aws_default",
        dest_s3_key: str,
        dest_verify: str | bool | None = None,
        replace: bool = False,
        google_impersonation_chain: str | Sequence[str] | None = None,
        dest_s3_extra_args: dict[str, Any] | None = None,
        s3_acl_policy: str | None = None,
        keep_directory_structure: bool = True,
        flatten_structure: bool = False,
        match_glob: str | None = None,
        gcp_user_project: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(replace=replace, **kwargs)
        self.gcs_bucket = gcs_bucket
        self.prefix = prefix
        self.gcp_conn_id = gcp_conn_id
        self.dest_aws_conn_id = dest_aws_conn_id
        self.dest_s3_key = dest_s3_key
        self.dest_verify = dest_verify
        self.google_impersonation_chain = google_impersonation_chain
        self.dest_s3_extra_args = dest_s3_extra_args or {}
        self.s3_acl_policy = s3_acl_policy
        self.keep_directory_structure = keep_directory_structure
        self.flatten_structure = flatten_structure
        self.match_glob = match_glob
        self.gcp_user_project = gcp_user_project
        self._written()
        if flatten_structure and keep_directory_structure:
            self.log.warning("flatten_structure=True takes precedence over keep_directory_structure=True")

    def _written(self) -> Written:
        how = written(self.dest_s3_extra_args, self.s3_acl_policy, plain=not self.preserve_metadata)
        how.options.check("s3", "dest_s3_extra_args", written=True)
        return how

    def _check(self) -> None:
        self._destination()

    def _destination(self) -> tuple[str, str]:
        """Bucket, and the prefix that names are appended to."""
        path = self.dest_s3_key
        if not self.keep_directory_structure and self.prefix and not self.flatten_structure:
            path = posixpath.join(path, self.prefix)
        bucket, key = split_s3_url(path)
        return bucket, key if not key or key.endswith("/") else f"{key}/"

    def _request(self) -> Request:
        from airflow_provider_skyplane.engine import Location, Request

        bucket, prefix = self._destination()
        how = self._written()
        kind = MappingKind.FLATTEN if self.flatten_structure else MappingKind.APPEND

        def destination() -> Location:
            scope = Scope(bucket, prefix, writes=True)
            store = self.hook.s3(bucket, self.dest_aws_conn_id, scope=scope, verify=self.dest_verify)
            return Location(how.options.applied(store), prefix)

        return Request(
            source=self._source,
            destination=destination,
            options=self._options(how.rules),
            selection=Selection(self.prefix or "", drop_covered_markers=True),
            mapping=KeyMapping(kind, "", prefix),
            receipt=self._receipt(
                f"s3://{bucket}",
                {"gcs": self.gcp_conn_id, "s3": self.dest_aws_conn_id},
                self.google_impersonation_chain,
            ),
        )

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
        if self.flatten_structure and not self.replace:
            warn_of_duplicates(self.log, lines)

    def _names(self, copied: Sequence[ReceiptLine]) -> list[str]:
        return [line.key for line in copied]

    def get_openlineage_facets_on_start(self) -> Any:
        """The same datasets as the stock operator's."""
        from airflow.providers.common.compat.openlineage.facet import Dataset
        from airflow.providers.openlineage.extractors import OperatorLineage

        bucket, key = split_s3_url(self.dest_s3_key)
        return OperatorLineage(
            inputs=[Dataset(namespace=f"gs://{self.gcs_bucket}", name=self.prefix or "/")],
            outputs=[Dataset(namespace=f"s3://{bucket}", name=key or "/")],
        )


GCSToS3Operator = SkyplaneGCSToS3Operator
"""The stock operator's name, so that a DAG changes by one import line."""
