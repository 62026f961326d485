"""A drop-in for the Azure provider's ``S3ToAzureBlobStorageOperator``. Imports no cloud provider and no SDK."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_skyplane.hooks.scopes import Scope
from airflow_provider_skyplane.openlineage.naming import dataset_name
from airflow_provider_skyplane.transfers.drop_in import OWN_TEMPLATE_FIELDS, IncrementalDropIn
from airflow_provider_skyplane.transfers.s3_hook_args import S3HookArgs
from airflow_provider_skyplane.transfers.wasb import container, dataset, made_by, public_read, refuse_empty, uri
from skyplane_core.errors import NothingToTransfer
from skyplane_core.filters import Filters, NameRule
from skyplane_core.spec import KeyMapping, MappingKind, ReceiptLine, Selection

if TYPE_CHECKING:
    from airflow_provider_skyplane.engine import Request
    from skyplane_core.model import StoreConfig


class TooManyFilesToMoveException(Exception):
    """Several objects, and one blob to copy them to. Name and text are the stock operator's."""

    def __init__(self, number_of_files: int) -> None:
        super().__init__(f"{number_of_files} cannot be moved to a single Azure Blob.")


class InvalidAzureBlobParameters(Exception):
    """Neither ``blob_name`` nor ``blob_prefix``. Name and text are the stock operator's."""

    def __init__(self) -> None:
        super().__init__("One of blob_name or blob_prefix must be provided.")


class InvalidKeyComponents(Exception):
    """No source, or with ``replace=True`` no destination. Name and text are the stock operator's."""

    def __init__(self) -> None:
        super().__init__("Either full_path of prefix and file_name must not be None")


class SkyplaneS3ToAzureBlobStorageOperator(IncrementalDropIn):
    """Copies an object or a directory from S3 to Azure Blob Storage, in parallel, verified, without temporary files.

    Takes every argument of the stock ``S3ToAzureBlobStorageOperator`` with the same meaning and default;
    ``docs/migrating-azure.md`` lists where it differs on purpose. What is new is opt-in: the arguments of
    :class:`~airflow_provider_skyplane.transfers.drop_in.IncrementalDropIn`. Returns the names of what this run copied,
    relative to ``s3_prefix``, sorted; of ``s3_key`` its last segment.

    Raises:
        TypeError, ValueError: at construction, for arguments that cannot be right.
    """

    template_fields: Sequence[str] = (
        "s3_bucket",
        "container_name",
        "s3_prefix",
        "s3_key",
        "blob_prefix",
        "blob_name",
        "aws_conn_id",
        "wasb_conn_id",
        *OWN_TEMPLATE_FIELDS,
    )
    destination_service = "Azure Blob Storage"

    def __init__(
        self,
        *,
        aws_conn_id: str = "aws_default",
        wasb_conn_id: str = "wasb_default",
        s3_bucket: str,
        container_name: str,
        s3_prefix: str | None = None,
        s3_key: str | None = None,
        blob_prefix: str | None = None,
        blob_name: str | None = None,
        create_container: bool = False,
        replace: bool = False,
        s3_verify: bool = False,
        s3_extra_args: Mapping[str, Any] | None = None,
        wasb_extra_args: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(replace=replace, **kwargs)
        self.aws_conn_id = aws_conn_id
        self.wasb_conn_id = wasb_conn_id
        self.s3_bucket = s3_bucket
        self.container_name = container_name
        self.s3_prefix = s3_prefix
        self.s3_key = s3_key
        self.blob_prefix = blob_prefix
        self.blob_name = blob_name
        self.create_container = create_container
        self.s3_verify = s3_verify
        self.s3_extra_args = dict(s3_extra_args or {})
        self.wasb_extra_args = dict(wasb_extra_args or {})
        self._s3_hook_args = S3HookArgs.of(self.s3_extra_args, "s3_extra_args", ignored=("extra_args",))
        if public_read(self.wasb_extra_args):
            raise ValueError("wasb_extra_args has public_read; what is written needs credentials. Leave it out")

    def _check(self) -> None:
        refuse_empty(self, "s3_bucket", "container_name")
        if not (self.blob_name or self.blob_prefix):
            raise InvalidKeyComponents if self.replace else InvalidAzureBlobParameters
        nameless = str(self.s3_key).endswith("/") and not self.blob_name
        if nameless or not (self.s3_key or self.s3_prefix):
            raise InvalidKeyComponents
        if self.s3_verify is False:
            self.log.warning("s3_verify is False, its default: S3's certificates are not checked. Set s3_verify=True.")

    def _settled(self, request: Request) -> Request:
        """With the one key under ``s3_prefix`` that ``blob_name`` is for."""
        from airflow_provider_skyplane.engine import listing

        prefix, blob = str(self.s3_prefix), str(self.blob_name)
        under = listing(self._bucket(), prefix)
        keys = [info.key for info in itertools.islice(under, 2)]
        if len(keys) > 1:
            raise TooManyFilesToMoveException(len(keys) + sum(1 for _ in under))
        if not keys:
            raise NothingToTransfer("there is nothing under the prefix", where=f"s3://{self.s3_bucket}/{prefix}")
        selection, mapping = _one(keys[0], blob)
        return dataclasses.replace(request, selection=selection, mapping=mapping)

    def _bucket(self) -> StoreConfig:
        scope = Scope(self.s3_bucket, str(self.s3_key or self.s3_prefix))
        return self._s3_hook_args.store(self.hook, scope, self.aws_conn_id, verify=self.s3_verify)

    @property
    def _directory(self) -> str:
        """What the names of copies are relative to."""
        prefix = self.s3_prefix or ""
        return prefix if prefix.endswith("/") else f"{prefix}/"

    def _request(self) -> Request:
        from airflow_provider_skyplane.engine import Location, Request

        selection, mapping = self._rule()
        return Request(
            source=lambda: Location(self._bucket(), selection.prefix),
            destination=lambda: Location(
                container(self.hook, self.container_name, self.wasb_conn_id, written=True), mapping.destination
            ),
            options=self._options(),
            selection=selection,
            mapping=mapping,
            settle=self._settled if self.blob_name and not self.s3_key else None,
            create_container=self._made if self.create_container else None,
            receipt=self._receipt(
                uri(self.container_name, self.wasb_conn_id),
                {"azure": self.wasb_conn_id, "s3": self.aws_conn_id},
            ),
        )

    def _made(self) -> StoreConfig:
        return made_by(self.hook, self.container_name, self.wasb_conn_id)

    def _rule(self) -> tuple[Selection, KeyMapping]:
        if self.s3_key or self.blob_name:
            key = self.s3_key or str(self.s3_prefix)
            return _one(key, self.blob_name or f"{self.blob_prefix}/{key.rsplit('/', 1)[-1]}")
        prefix = str(self.s3_prefix)
        # The directory's own marker: there is no name that a copy of it could have.
        marker = NameRule(include=False, pattern=rf"\A{self._directory[len(prefix) :]}\Z", regex=True)
        return (
            Selection(prefix, filters=Filters(rules=(marker,))),
            KeyMapping(MappingKind.PREFIX, self._directory, f"{self.blob_prefix}/"),
        )

    def _names(self, copied: Sequence[ReceiptLine]) -> list[str]:
        if self.s3_key:
            return [self.s3_key.rsplit("/", 1)[-1] for _ in copied]
        return [line.key.removeprefix(self._directory) for line in copied]

    def get_openlineage_facets_on_start(self) -> Any:
        """What is read and written, of which the stock operator tells nothing."""
        from airflow.providers.common.compat.openlineage.facet import Dataset
        from airflow.providers.openlineage.extractors import OperatorLineage

        read = dataset_name(f"s3://{self.s3_bucket}/{self.s3_key or self.s3_prefix or ''}")
        name = (self.blob_name or self.blob_prefix or "").strip("/") or "/"
        written = dataset(self.container_name, self.wasb_conn_id, name)
        return OperatorLineage(inputs=[Dataset(*read)], outputs=[written])


def _one(key: str, blob: str) -> tuple[Selection, KeyMapping]:
    """One object, under exactly this name."""
    return Selection(key, single=True), KeyMapping(MappingKind.REPLACE, key, blob)


S3ToAzureBlobStorageOperator = SkyplaneS3ToAzureBlobStorageOperator
"""The stock operator's name, so that a DAG changes by one import line."""
