"""A fast, honest object server on loopback, for tests and benchmarks: S3, Google Cloud Storage and basic Azure Blob.

::

    from skyplane_core.testing.objectserver import Fault, Faults, ObjectServer

    with ObjectServer("s3", buckets=["src"], faults=Faults(Fault("UploadPart", "status", nth=(2,)))) as server:
        server.put("src", "a/b.bin", b"hello")
        s3 = boto3.client("s3", endpoint_url=server.endpoint_url, ...)

It computes every checksum that it attests, refuses wrong ones, checks signatures if it is given credentials, and
honours preconditions. See docs/testing.md.
"""

import importlib.util

if importlib.util.find_spec("awscrt") is None:
    raise ModuleNotFoundError(
        "the object server computes checksums with awscrt. Run: pip install 'airflow-provider-skyplane[testing]'",
        name="awscrt",
    )

from skyplane_core.testing.objectserver.faults import ACTIONS, Fault, Faults
from skyplane_core.testing.objectserver.server import ObjectServer

__all__ = ["ACTIONS", "Fault", "Faults", "ObjectServer"]
