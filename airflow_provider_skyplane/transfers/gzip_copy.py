"""``gzip=True`` of the drop-in: objects are compressed on the worker as they stream through it.

The engine copies bytes as they are, so this path uses the provider hooks and their SDKs. It gives what the stock
operator gives, the same names and gzip bodies of the same content, without its temporary files and several at once.
Memory: about 10 MiB for each thread, whatever the size of the objects.
"""

from __future__ import annotations

import concurrent.futures
import threading
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow_provider_skyplane.compat import AirflowException
from airflow_provider_skyplane.transfers.gcs_url import split_gcs_url

if TYPE_CHECKING:
    from airflow_provider_skyplane.transfers.s3_to_gcs import SkyplaneS3ToGCSOperator

THREADS = 8
_READ_BYTES = 1024 * 1024
UPLOAD_BYTES = 8 * 1024 * 1024
TIMEOUT_SECONDS = 60
# The stock operator's level (gzip.open's default), so that objects don't grow by a swap of operators.
_LEVEL = 9
_GZIP_CONTAINER = 31


class GzipReader:
    """What ``read`` returns, compressed: a readable stream for the SDK. Cannot seek; not thread-safe.

    Args:
        read: returns up to that many bytes, empty at the end. What it raises ends the upload, which then never
            becomes an object.
    """

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._compressor: Any = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP_CONTAINER)
        self._buffer = bytearray()
        self._position = 0

    def read(self, size: int) -> bytes:
        """Exactly ``size`` bytes, fewer only at the end."""
        while len(self._buffer) < size and self._compressor is not None:
            block = self._read(_READ_BYTES)
            if block:
                self._buffer += self._compressor.compress(block)
            else:
                self._buffer += self._compressor.flush()
                self._compressor = None
        answer = bytes(self._buffer[:size])
        del self._buffer[:size]
        self._position += len(answer)
        return answer

    def tell(self) -> int:
        """Compressed bytes read so far; the SDK counts by it."""
        return self._position


class GzipCopy:
    """One run of the operator's gzip path. ``run`` may be called once."""

    def __init__(self, operator: SkyplaneS3ToGCSOperator) -> None:
        try:
            from airflow.providers.amazon.aws.hooks.s3 import S3Hook
            from airflow.providers.google.cloud.hooks.gcs import GCSHook
        except ImportError as error:
            raise AirflowException(
                "gzip=True compresses on the worker and needs apache-airflow-providers-amazon and "
                "apache-airflow-providers-google there."
            ) from error
        self._stopped = threading.Event()
        self._operator = operator
        self._gcs = GCSHook(gcp_conn_id=operator.gcp_conn_id, impersonation_chain=operator.google_impersonation_chain)
        self._s3 = S3Hook(
            aws_conn_id=operator.aws_conn_id,
            verify=operator.verify,
            region_name=operator.region_name,
            config=operator.botocore_config,
        )

    def run(self) -> list[str]:
        """Copy what has to be copied and return its keys, sorted.

        The first failure ends the run, as a timeout of the task does: what is being copied then is broken off.
        """
        keys = self._keys()
        if not keys:
            self._operator.log.info("In sync, no files needed to be uploaded to Google Cloud Storage")
            return keys
        bucket_name, _ = split_gcs_url(self._operator.dest_gcs)
        # Both SDK clients may be shared by threads, and the SDK's connection pool holds ten.
        bucket = self._gcs.get_conn().bucket(bucket_name)
        client = self._s3.get_conn()
        with concurrent.futures.ThreadPoolExecutor(THREADS, thread_name_prefix="skyplane-gzip") as pool:
            copies = [pool.submit(self._copy, client, bucket, key) for key in keys]
            try:
                for copy in concurrent.futures.as_completed(copies):
                    copy.result()
            except BaseException:
                self._stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        self._operator.log.info("All done, uploaded %d files to Google Cloud Storage", len(keys))
        return keys

    def _keys(self) -> list[str]:
        operator = self._operator
        listed = sorted(
            self._s3.list_keys(
                bucket_name=operator.bucket,
                prefix=operator.prefix,
                delimiter=operator.delimiter,
                apply_wildcard=operator.apply_wildcard,
            )
        )
        following = [*listed[1:], ""]
        keys = [
            key
            for key, after in zip(listed, following, strict=False)
            if not (key.endswith("/") and after.startswith(key))
        ]
        if operator.replace:
            return keys
        bucket, prefix = split_gcs_url(operator.dest_gcs)
        present = {operator.gcs_to_s3_object(name) for name in self._gcs.list(bucket, prefix=prefix)}
        return [key for key in keys if key not in present]

    def _copy(self, client: Any, bucket: Any, key: str) -> None:
        body = client.get_object(Bucket=self._operator.bucket, Key=key)["Body"]
        with body:
            blob = bucket.blob(self._operator.s3_to_gcs_object(key), chunk_size=UPLOAD_BYTES)
            reader = GzipReader(lambda size: self._read(body, size))
            blob.upload_from_file(reader, content_type="application/octet-stream", timeout=TIMEOUT_SECONDS)

    def _read(self, body: Any, size: int) -> Any:
        if self._stopped.is_set():
            raise concurrent.futures.CancelledError
        return body.read(size)
