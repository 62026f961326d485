"""A drop-in for the Amazon provider's ``S3CopyObjectOperator``. Imports no cloud provider and no SDK at parse time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_skyplane.hooks.scopes import Scope, beside
from airflow_provider_skyplane.transfers.drop_in import OWN_TEMPLATE_FIELDS, SkyplaneDropIn
from airflow_provider_skyplane.transfers.s3_extra_args import S3_DEFAULT_TYPE, written
from airflow_provider_skyplane.transfers.s3_url import s3_bucket_and_key
from skyplane_core.model import AttributeRules, Compression
from skyplane_core.spec import KeyMapping, MappingKind, ReceiptLine, Selection, TransferOptions
from skyplane_core.store_options import StoreOptions

if TYPE_CHECKING:
    from airflow_provider_skyplane.engine import Location, Request

_DIRECTIVES = ("COPY", "REPLACE")


class SkyplaneS3CopyObjectOperator(SkyplaneDropIn):
    """Copies one object within S3: by S3 itself where it can, whatever the size, and otherwise through a gateway.

    Takes every argument of the stock ``S3CopyObjectOperator`` with the same meaning and default; ``docs/migrating.md``
    lists where it differs on purpose. What is new is opt-in: ``return_summary`` (:class:`SkyplaneDropIn`),
    ``deferrable`` and the other arguments of :class:`SkyplaneBaseOperator`. Returns nothing.

    Raises:
        UsageError: at construction, for an ``acl_policy`` that S3 does not have.
        ValueError: at construction, for another argument that cannot be right.
    """

    template_fields: Sequence[str] = (
        "aws_conn_id",
        "dest_bucket_key",
        "dest_bucket_name",
        "region_name",
        "source_bucket_key",
        "source_bucket_name",
        "verify",
        *OWN_TEMPLATE_FIELDS,
    )
    destination_service = "S3"

    def __init__(
        self,
        *,
        source_bucket_key: str,
        dest_bucket_key: str,
        source_bucket_name: str | None = None,
        dest_bucket_name: str | None = None,
        source_version_id: str | None = None,
        acl_policy: str | None = None,
        meta_data_directive: str | None = None,
        kms_key_id: str | None = None,
        kms_encryption_type: str | None = None,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
        region: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.source_bucket_key = source_bucket_key
        self.dest_bucket_key = dest_bucket_key
        self.source_bucket_name = source_bucket_name
        self.dest_bucket_name = dest_bucket_name
        self.source_version_id = source_version_id
        self.acl_policy = acl_policy
        self.meta_data_directive = meta_data_directive
        self.kms_key_id = kms_key_id
        self.kms_encryption_type = kms_encryption_type
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name or region
        self.verify = verify
        self.botocore_config = botocore_config
        if meta_data_directive and meta_data_directive not in _DIRECTIVES:
            raise ValueError(
                f"Invalid value for meta_data_directive: {meta_data_directive!r}. "
                f"Expected one of {', '.join(_DIRECTIVES)}"
            )
        self._written().check("s3", "acl_policy", written=True)

    def _written(self) -> StoreOptions:
        given = {"ServerSideEncryption": self.kms_encryption_type, "SSEKMSKeyId": self.kms_key_id}
        said = {name: value for name, value in given.items() if value}
        return written(said, self.acl_policy).options

    def _check(self) -> None:
        if bool(self.kms_key_id) != bool(self.kms_encryption_type):
            raise ValueError("kms_key_id and kms_encryption_type must both be specified. Only one was provided.")
        self._ends()

    def _ends(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """Bucket and key of source and destination."""
        destination = s3_bucket_and_key(
            self.dest_bucket_name, self.dest_bucket_key, "dest_bucket_name", "dest_bucket_key"
        )
        source = s3_bucket_and_key(
            self.source_bucket_name, self.source_bucket_key, "source_bucket_name", "source_bucket_key"
        )
        return source, destination

    def _request(self) -> Request:
        from airflow_provider_skyplane.engine import Request

        (source_bucket, source_key), (bucket, key) = self._ends()
        pinned = StoreOptions(object_version=self.source_version_id or "")
        replaces = self.meta_data_directive == "REPLACE"
        return Request(
            source=lambda: self._place(Scope(source_bucket, source_key), source_key, pinned),
            destination=lambda: self._place(
                Scope(bucket, beside(key), writes=True, copies_from=source_bucket), key, self._written()
            ),
            recursive=False,
            options=TransferOptions(
                compression=Compression(self.compression),
                keep_attributes=not replaces,
                record_source=False,
                attributes=AttributeRules(content_type=S3_DEFAULT_TYPE if replaces else "", keep_tags=True),
            ),
            selection=Selection(source_key, single=True),
            mapping=KeyMapping(MappingKind.REPLACE, source_key, key),
            receipt=self._receipt(f"s3://{bucket}", {"s3": self.aws_conn_id}),
        )

    def _place(self, scope: Scope, key: str, options: StoreOptions) -> Location:
        from airflow_provider_skyplane.engine import Location

        store = self.hook.s3(
            scope.bucket,
            self.aws_conn_id,
            scope=scope,
            region_name=self.region_name,
            verify=self.verify,
            botocore_config=self.botocore_config,
        )
        return Location(options.applied(store), key)

    def _names(self, copied: Sequence[ReceiptLine]) -> None:
        """The stock operator returns nothing."""

    def get_openlineage_facets_on_start(self) -> Any:
        """The same datasets as the stock operator's."""
        from airflow.providers.common.compat.openlineage.facet import Dataset
        from airflow.providers.openlineage.extractors import OperatorLineage

        (source_bucket, source_key), (bucket, key) = self._ends()
        return OperatorLineage(
            inputs=[Dataset(namespace=f"s3://{source_bucket}", name=source_key)],
            outputs=[Dataset(namespace=f"s3://{bucket}", name=key)],
        )


S3CopyObjectOperator = SkyplaneS3CopyObjectOperator
"""The stock operator's name, so that a DAG changes by one import line."""
