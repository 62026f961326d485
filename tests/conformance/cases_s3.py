"""S3 servers under the suite: ours, and two that nobody here wrote."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from skyplane_core.errors import StoreRejected, StoreUnavailable
from skyplane_core.model import Credentials, StoreConfig
from tests.conformance.store_case import Feature, Gap, Running, StoreCase


def _running(endpoint_url: str, credentials: Credentials) -> Running:
    def make_bucket(name: str) -> StoreConfig:
        import boto3
        from botocore.config import Config

        config = StoreConfig(
            kind="s3", bucket=name, endpoint_url=endpoint_url, region="us-east-1", credentials=credentials
        )
        client = boto3.client(
            "s3",
            endpoint_url=endpoint_url,
            region_name="us-east-1",
            aws_access_key_id=credentials.access_key,
            aws_secret_access_key=credentials.secret_key,
            config=Config(s3={"addressing_style": "path"}),
        )
        client.create_bucket(Bucket=name)
        client.close()
        return config

    def distrust(config: StoreConfig) -> StoreConfig:
        return msgspec.structs.replace(config, credentials=Credentials(credentials.access_key, "wrong"))

    return Running(make_bucket, distrust)


@contextlib.contextmanager
def object_server(path: Path) -> Iterator[Running]:
    from skyplane_core.testing.objectserver import ObjectServer

    with ObjectServer("s3", credentials={"AK": "SK"}) as server:
        yield _running(server.endpoint_url, Credentials("AK", "SK"))


def lacking(*shortcomings: str) -> Callable[[Path], contextlib.AbstractContextManager[Running]]:
    """Our server without what others are known to lack."""

    @contextlib.contextmanager
    def start(path: Path) -> Iterator[Running]:
        from skyplane_core.testing.objectserver import ObjectServer

        with ObjectServer("s3", credentials={"AK": "SK"}, md5=True, shortcomings=shortcomings) as server:
            yield _running(server.endpoint_url, Credentials("AK", "SK"))

    return start


@contextlib.contextmanager
def moto(path: Path) -> Iterator[Running]:
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield _running(f"http://{host}:{port}", Credentials("AK", "SK"))
    finally:
        server.stop()


@contextlib.contextmanager
def swift(path: Path) -> Iterator[Running]:
    from tests.servers.swift import ACCESS_KEY, SECRET_KEY, swift_s3

    with swift_s3(path) as endpoint_url:
        yield _running(endpoint_url, Credentials(ACCESS_KEY, SECRET_KEY))


_NOT_IN_XML = {"control\x01": "S3 answers with the key in XML, which cannot hold it"}
_ECHO = Gap("it keeps the checksum that it is sent and never looks at the bytes")
_NO_CHECKSUM = Gap("it takes no checksums; what it holds has to be read back")
_UNCONDITIONAL = Gap("it writes whatever is there")
_LINE_FEED = "its URL rules stop at a line feed, so that it finds no route"

CASES = [
    StoreCase("s3-objectserver", object_server, copies=True, refused_uploads=_NOT_IN_XML),
    StoreCase(
        # As Backblaze B2: a checksum or a condition in a request is refused.
        "s3-refuses",
        lacking("refuses-checksums", "refuses-conditions"),
        gaps={
            Feature.PUT_CHECKSUM: _NO_CHECKSUM,
            Feature.PART_CHECKSUM: _NO_CHECKSUM,
            Feature.WHOLE_CHECKSUM: _NO_CHECKSUM,
        },
        refused_uploads=_NOT_IN_XML,
    ),
    StoreCase(
        # As Ceph 16 with checksums, and as the least of servers with conditions: neither is seen.
        "s3-ignores",
        lacking("ignores-checksums", "ignores-conditions"),
        gaps={
            Feature.PUT_CHECKSUM: _NO_CHECKSUM,
            Feature.PART_CHECKSUM: _NO_CHECKSUM,
            Feature.WHOLE_CHECKSUM: _NO_CHECKSUM,
            Feature.PUT_IF_ABSENT: _UNCONDITIONAL,
            Feature.PUT_IF_VERSION: _UNCONDITIONAL,
            Feature.COMPLETE_IF_ABSENT: _UNCONDITIONAL,
            Feature.COMPLETE_IF_VERSION: _UNCONDITIONAL,
        },
        refused_uploads=_NOT_IN_XML,
    ),
    StoreCase(
        # As Cloudflare R2: CRC32C of the parts only, and parts of one size.
        "s3-composite",
        lacking("composite-only", "equal-parts"),
        gaps={},
        refused_uploads=_NOT_IN_XML,
    ),
    StoreCase(
        "s3-moto",
        moto,
        copies=True,
        gaps={
            Feature.PUT_CHECKSUM: _ECHO,
            Feature.PART_CHECKSUM: _ECHO,
            Feature.WHOLE_CHECKSUM: _ECHO,
            Feature.CREDENTIALS: Gap("it accepts any signature"),
            Feature.COMPLETE_IF_VERSION: Gap("it ignores If-Match on a completion"),
            Feature.COPY_CHECKSUM: _ECHO,
            Feature.COPY_OF_VERSION: Gap("it ignores x-amz-copy-source-if-match"),
            Feature.COMPLETE_ABORTED: Gap("it fails with a 500", StoreUnavailable),
            Feature.ABORTED_PART: Gap("it fails with a 500", StoreUnavailable),
            Feature.REPEAT_AFTER_OVERWRITE: Gap("it fails with a 500", StoreUnavailable),
        },
        unknown_keys={"line\nfeed": _LINE_FEED},
        refused_uploads=_NOT_IN_XML,
    ),
    StoreCase(
        "s3-swift",
        swift,
        gaps={
            Feature.WHOLE_CHECKSUM: Gap("it checks parts, but has no checksum of a whole object"),
            Feature.STORAGE_CLASS: Gap("it has none but STANDARD", StoreRejected),
            Feature.TAGS: Gap("it answers 501", StoreRejected),
        },
        refused_uploads=_NOT_IN_XML | {"k" * 1024: "the names of its segments are longer than the key"},
    ),
]
