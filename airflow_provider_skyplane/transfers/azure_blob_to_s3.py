"""A drop-in for the Amazon provider's ``AzureBlobStorageToS3Operator``. Imports no cloud provider and no SDK."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_skyplane.hooks.scopes import Scope
from airflow_provider_skyplane.openlineage.naming import dataset_name
from airflow_provider_skyplane.transfers.drop_in import OWN_TEMPLATE_FIELDS, IncrementalDropIn
from airflow_provider_skyplane.transfers.s3_extra_args import Written, written
from airflow_provider_skyplane.transfers.s3_hook_args import S3HookArgs
from airflow_provider_skyplane.transfers.s3_url import split_s3_url
from airflow_provider_skyplane.transfers.wasb import container, dataset, public_read, refuse_empty
from skyplane_core.spec import KeyMapping, MappingKind, ReceiptLine, Selection

if TYPE_CHECKING:
    from airflow_provider_skyplane.engine import Request
    from skyplane_core.model import StoreConfig


class SkyplaneAzureBlobStorageToS3Operator(IncrementalDropIn):
    """Copies blobs from Azure Blob Storage to S3, in parallel, verified, through neither memory nor temporary files.

    Takes every argument of the stock ``AzureBlobStorageToS3Operator`` with the same meaning and default;
    ``docs/migrating-azure.md`` lists where it differs on purpose. What is new is opt-in: the arguments of
    :class:`~airflow_provider_skyplane.transfers.drop_in.IncrementalDropIn`. Returns the names of the blobs that this
    run copied, sorted.

    Raises:
        UsageError, TypeError, ValueError: at construction, for arguments that cannot be right.
    """

    template_fields: Sequence[str] = (
        "container_name",
        "prefix",
        "delimiter",
        "dest_s3_key",
        "wasb_conn_id",
        "aws_conn_id",
        *OWN_TEMPLATE_FIELDS,
    )
    destination_service = "S3"

    def __init__(
        self,
        *,
        wasb_conn_id: str = "wasb_default",
        container_name: str,
        prefix: str | None = None,
        delimiter: str = "",
        aws_conn_id: str | None = "aws_default",
        dest_s3_key: str,
        dest_verify: str | bool | None = None,
        dest_s3_extra_args: Mapping[str, Any] | None = None,
        replace: bool = False,
        s3_acl_policy: str | None = None,
        wasb_extra_args: Mapping[str, Any] | None = None,
        s3_extra_args: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(replace=replace, **kwargs)
        self.wasb_conn_id = wasb_conn_id
        self.container_name = container_name
        self.prefix = prefix
        self.delimiter = delimiter
        self.aws_conn_id = aws_conn_id
        self.dest_s3_key = dest_s3_key
        self.dest_verify = dest_verify
        self.dest_s3_extra_args = dict(dest_s3_extra_args or {})
        self.s3_acl_policy = s3_acl_policy
        self.wasb_extra_args = dict(wasb_extra_args or {})
        self.s3_extra_args = dict(s3_extra_args or {})
        self._s3_hook_args = S3HookArgs.of(self.s3_extra_args, "s3_extra_args")
        self._public_read = public_read(self.wasb_extra_args)
        self._written()

    def _written(self) -> Written:
        return written(self.dest_s3_extra_args, self.s3_acl_policy, plain=not self.preserve_metadata)

    def _check(self) -> None:
        refuse_empty(self, "container_name")
        split_s3_url(self.dest_s3_key)

    def _request(self) -> Request:
        from airflow_provider_skyplane.engine import Location, Request

        bucket, key = split_s3_url(self.dest_s3_key)
        directory = key if not key or key.endswith("/") else f"{key}/"
        selection = Selection(
            self.prefix or "",
            # What the stock operator calls a delimiter is what names end in.
            glob=f"*{glob.escape(self.delimiter)}" if self.delimiter else "",
            drop_covered_markers=True,
        )
        how = self._written()
        return Request(
            source=lambda: Location(
                container(self.hook, self.container_name, self.wasb_conn_id, public_read=self._public_read),
                selection.prefix,
            ),
            destination=lambda: Location(
                how.options.applied(self._bucket(Scope(bucket, directory, writes=True))), directory
            ),
            options=self._options(how.rules),
            selection=selection,
            mapping=KeyMapping(MappingKind.APPEND, selection.prefix, directory),
            receipt=self._receipt(f"s3://{bucket}", {"s3": self.aws_conn_id, "azure": self.wasb_conn_id}),
        )

    def _bucket(self, scope: Scope) -> StoreConfig:
        return self._s3_hook_args.store(self.hook, scope, self.aws_conn_id, verify=self.dest_verify)

    def _names(self, copied: Sequence[ReceiptLine]) -> list[str]:
        return [line.key for line in copied]

    def get_openlineage_facets_on_start(self) -> Any:
        """What is read and written, of which the stock operator tells nothing."""
        from airflow.providers.common.compat.openlineage.facet import Dataset
        from airflow.providers.openlineage.extractors import OperatorLineage

        read = dataset(self.container_name, self.wasb_conn_id, (self.prefix or "").strip("/") or "/")
        written = dataset_name("s3://{}/{}".format(*split_s3_url(self.dest_s3_key)))
        return OperatorLineage(inputs=[read], outputs=[Dataset(*written)])


AzureBlobStorageToS3Operator = SkyplaneAzureBlobStorageToS3Operator
"""The stock operator's name, so that a DAG changes by one import line."""
