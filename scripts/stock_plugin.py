"""A pytest plugin: the stock providers' tests meet our classes, and an S3 server where they would patch boto3.

Our bytes are moved by other processes, which a patch in this one does not reach. So where a test looks at what arrived
in S3, what its patched hook says to be at the source is put there, on a server.
"""

import importlib
import json
import os
import sys
from collections.abc import Iterator
from types import ModuleType
from unittest import mock

import httpx
import moto
import pytest
from moto.server import ThreadedMotoServer

from scripts.stock_tests import SUITES
from tests.servers.airflow_azure import three

NOBODY = "http://127.0.0.1:9"
# Used as a decorator of functions and classes, as the original.
moto.mock_aws = pytest.mark.usefixtures("served_aws")
for suite in SUITES:
    ours = importlib.import_module(f"airflow_provider_skyplane.transfers.{suite.ours}")
    setattr(importlib.import_module(suite.stock), suite.name, getattr(ours, suite.name))


# Operator to S3: the kind of its source, the attribute that names its bucket, the hook, and that hook's listing.
SEEDED = {
    "GCSToS3Operator": ("gcs", "gcs_bucket", "GCSHook", "list"),
    "AzureBlobStorageToS3Operator": ("azure", "container_name", "WasbHook", "get_blobs_list_recursive"),
}


def seeded(stock: ModuleType, operator: type, kind: str, bucket: str, hook: str, listing: str) -> None:
    """Have ``operator`` find at its source what the patched hook of ``stock`` would list."""
    execute = operator.execute

    def on_servers(self: object, context: object) -> object:
        patched = getattr(stock, hook)
        names = getattr(patched.return_value, listing).return_value if isinstance(patched, mock.Mock) else None
        if not isinstance(names, list):
            return execute(self, context)
        with three(**{kind: [getattr(self, bucket)]}) as world:
            # S3 stays the one of served_aws.
            del os.environ["AIRFLOW_CONN_AWS_DEFAULT"]
            world.put(kind, getattr(self, bucket), {name: name.encode() for name in names})
            return execute(self, context)

    operator.execute = on_servers


for suite in SUITES:
    if suite.name in SEEDED:
        stock_module = importlib.import_module(suite.stock)
        seeded(stock_module, getattr(stock_module, suite.name), *SEEDED[suite.name])

# Airflow's own tools for tests, which it does not release; what the chosen tests ask of them is to be there.
for name, attributes in {
    "tests_common": [],
    "tests_common.test_utils": [],
    "tests_common.test_utils.dag": ["sync_dag_to_db"],
    "tests_common.test_utils.taskinstance": ["create_task_instance", "render_template_fields"],
    "tests_common.test_utils.version_compat": ["AIRFLOW_V_3_0_PLUS"],
}.items():
    sys.modules[name] = module = ModuleType(name)
    for attribute in attributes:
        setattr(module, attribute, mock.sentinel.not_here)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def served_aws(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty AWS for the test, and credentials for it in the environment."""
    httpx.post(f"{s3_server}/moto-api/reset", trust_env=False).raise_for_status()
    for variable, value in {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(variable, value)


@pytest.fixture(autouse=True)
def _nobody_real(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test gets out: what is not patched goes to a port where nobody listens."""
    if "AWS_ENDPOINT_URL" not in os.environ:
        monkeypatch.setenv("AWS_ENDPOINT_URL", NOBODY)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", NOBODY)
    if "openlineage" in request.node.name:
        # The account that these tests have the patched hook tell.
        wasb = {"conn_type": "wasb", "login": "mock_account_name", "password": "a2V5", "host": f"{NOBODY}/x"}
        monkeypatch.setenv("AIRFLOW_CONN_WASB_DEFAULT", json.dumps(wasb))
