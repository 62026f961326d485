"""The stock S3 hook's reading of ``s3://`` and ``https://`` URLs, with its errors to the letter. Pure."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from airflow_provider_skyplane.compat import AirflowException

_FORMATS = (
    "S3://bucket-name/key-name",
    "https://bucket-name.s3.region-code.amazonaws.com/key-name",
)


def split_s3_url(url: str) -> tuple[str, str]:
    """Bucket and key; leading slashes of an ``s3://`` URL's key are dropped.

    A ``?`` belongs to the key. The stock hook cuts the key off there, so that two objects may become one.

    Raises:
        AirflowException: neither form; of the amazon provider's own class where that is installed.
    """
    scheme, _, rest = url.partition("//")
    if re.fullmatch(r"s3[na]?:", scheme, re.IGNORECASE):
        bucket, _, key = rest.partition("/")
        if not bucket:
            raise _refused("Please provide a bucket name using a valid format of the form: ", url)
        return bucket, key.lstrip("/")
    if scheme == "https:":
        host, _, path = rest.partition("/")
        labels = host.split(".")
        if labels[0] == "s3" and "/" in path:
            bucket, _, key = path.partition("/")
            return bucket, key
        if labels[0] != "s3" and labels[1:2] == ["s3"]:
            return labels[0], path
        raise _refused(
            "Please provide a bucket name using a valid virtually hosted format which should be of the form: ",
            url,
            formats=_FORMATS[1:],
        )
    raise _refused("Please provide a bucket name using a valid format of the form: ", url)


def s3_bucket_and_key(bucket: str | None, key: str, bucket_argument: str, key_argument: str) -> tuple[str, str]:
    """Bucket and key of a pair of arguments: a key beside its bucket, or a full URL without one.

    Raises:
        TypeError: a bucket, and a full URL.
        AirflowException: see :func:`split_s3_url`.
    """
    if bucket is None:
        return split_s3_url(key)
    parts = urlsplit(key)
    if parts.scheme or parts.netloc:
        raise TypeError(
            f"If `{bucket_argument}` is provided, {key_argument} should be a relative path "
            "from root level, rather than a full s3:// url"
        )
    return bucket, key


def _refused(text: str, url: str, formats: tuple[str, ...] = _FORMATS) -> AirflowException:
    message = f'{text}{" or ".join(formats)} but provided: "{url}"'
    try:
        from airflow.providers.amazon.aws.exceptions import S3HookUriParseFailure
    except ImportError:
        return AirflowException(message)
    refusal: AirflowException = S3HookUriParseFailure(message)
    return refusal
