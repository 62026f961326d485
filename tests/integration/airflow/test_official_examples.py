"""The official examples of the stock transfer operators: their transfer tasks, with our import lines, in one DAG run.

What is replaced, since it needs a real cloud: the tasks that make buckets and upload the first objects (the fixture
does so on our servers), ``WasbBlobSensor`` (the blob is there), the tasks that delete buckets, and
``OpenLineageTestOperator`` and ``watcher``, which are tools of Airflow's own system tests. Their checks of what arrived
are the assertions here.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers.airflow_azure import Three, three

# Thirteen tasks, each with gateways of its own.
pytestmark = pytest.mark.timeout(420)

EXAMPLES = Path(__file__).parent / "official_examples.py"
PREFIX = "/home/airflow/gcs/data/gcs_to_gcs_default/"
BUCKETS = {
    "s3": ["bucket-example-s3-to-gcs", "env-azure-blob-to-s3-bucket", "env-gcs-to-s3-bucket", "env-s3-bucket",
           "env-s3-bucket-2", "env-s3-to-wasb-bucket"],
    "gcs": ["bucket-example-s3-to-gcs", "bucket_gcs_to_gcs", "bucket_dst_gcs_to_gcs", "from-azure",
            "env-gcs-to-s3-bucket"],
    "azure": ["airflow", "env-azure-blob-to-s3-container", "env-wasb-container"],
}  # fmt: skip
SOURCES = [
    ("s3", "bucket-example-s3-to-gcs", {"gcs/example_upload.txt": b"uploaded"}),
    ("gcs", "bucket_gcs_to_gcs", {PREFIX + "random.bin": b"r" * 5000, f"{PREFIX}subdir/random.bin": b"s" * 5000}),
    ("gcs", "bucket_dst_gcs_to_gcs", {PREFIX + "random.bin": b"r" * 5000, f"{PREFIX}subdir/random.bin": b"s" * 5000}),
    ("azure", "airflow", {"file.txt": b"from azure"}),
    ("azure", "env-azure-blob-to-s3-container", {"a.txt": b"a", "in/b.txt": b"b"}),
    ("gcs", "env-gcs-to-s3-bucket", {"env-gcs-to-s3-key": b"test"}),
    ("s3", "env-s3-bucket", {"env-key": b"apple,0.5\n", "env-key2": b"other"}),
    ("s3", "env-s3-to-wasb-bucket", {"TEST/TEST1.csv": b"Testing..."}),
]
RETURNED = {
    "s3_to_gcs_task": ["gcs/example_upload.txt"],
    "s3_to_gcs_task_def": ["gcs/example_upload.txt"],
    "copy_single_gcs_file": ["gs://bucket_dst_gcs_to_gcs/backup_random.bin"],
    "copy_files": ["gs://bucket_dst_gcs_to_gcs/backup/random.bin"],
    "copy_files_with_match_glob": [],
    "move_single_file": ["gs://bucket_dst_gcs_to_gcs/backup_random.bin"],
    "transfer_files_to_gcs": "gs://from-azure/file.txt",
    "azure_blob_to_s3": ["a.txt", "in/b.txt"],
    "gcs_to_s3": ["env-gcs-to-s3-key"],
    "copy_object": None,
    "s3_to_wasb": ["TEST1.csv"],
}
ARRIVED = [
    ("gcs", "bucket-example-s3-to-gcs", {"/example_upload.txt": b"uploaded", "gcs/example_upload.txt": b"uploaded"}),
    ("gcs", "from-azure", {"file.txt": b"from azure"}),
    ("s3", "env-azure-blob-to-s3-bucket", {"env-azure-blob-to-s3-key/a.txt": b"a",
                                           "env-azure-blob-to-s3-key/in/b.txt": b"b"}),
    ("s3", "env-gcs-to-s3-bucket", {"env-gcs-to-s3-key/env-gcs-to-s3-key": b"test"}),
    ("s3", "env-s3-bucket-2", {"env-key2": b"apple,0.5\n"}),
    ("azure", "env-wasb-container", {"TEST/TEST1.csv": b"Testing..."}),
]  # fmt: skip


@pytest.fixture
def world(airflow_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Three]:
    # For the task that defers; dag.test() runs its trigger inline.
    monkeypatch.setenv("AIRFLOW_CONN_SKYPLANE_DEFAULT", f'{{"conn_type": "skyplane", "password": "{"s" * 40}"}}')
    monkeypatch.setenv("AIRFLOW__SKYPLANE__LOCAL_GATEWAYS_OUTLIVE_TASK", "True")
    with three(**BUCKETS) as found:
        for kind, bucket, objects in SOURCES:
            found.put(kind, bucket, objects)
        yield found


def load() -> Any:
    # Airflow runs only what lies in its DAGs folder.
    path = shutil.copy(EXAMPLES, os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
    spec = importlib.util.spec_from_file_location("official_examples", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.dag


def bodies(world: Three, kind: str, bucket: str) -> dict[str, bytes]:
    return {name: body for name, (_, _, _, body) in (world.objects(kind, bucket) or {}).items()}


# Airflow's own, and the FutureWarnings that the stock operators give for the same arguments.
@pytest.mark.filterwarnings("ignore")
def test_the_transfer_task_of_every_official_example(world: Three) -> None:
    run = load().test()
    states = {ti.task_id: str(ti.state) for ti in run.get_task_instances()}
    assert states == dict.fromkeys([*RETURNED, "copy_files_with_list", "move_files_with_list"], "success")
    returned = {ti.task_id: ti.xcom_pull(task_ids=ti.task_id) for ti in run.get_task_instances()}
    assert {task: returned[task] for task in RETURNED} == RETURNED
    for kind, bucket, objects in ARRIVED:
        assert bodies(world, kind, bucket) == objects, bucket
    # What the example's own last task asserts of the bucket, and what became of the source.
    copied = bodies(world, "gcs", "bucket_dst_gcs_to_gcs")
    assert {PREFIX + "random.bin", f"{PREFIX}subdir/random.bin", "backup/random.bin", "backup_random.bin"} <= set(
        copied
    )
    assert copied["backup_random.bin"] == b"r" * 5000
    assert list(bodies(world, "gcs", "bucket_gcs_to_gcs")) == [f"{PREFIX}subdir/random.bin"]
