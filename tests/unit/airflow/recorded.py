"""Operators with an engine that only records what it is asked."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_skyplane.finished import Finished
from airflow_provider_skyplane.operators.skyplane import SkyplaneOperator
from airflow_provider_skyplane.transfers.s3_to_gcs import SkyplaneS3ToGCSOperator
from skyplane_core.errors import (
    StoreUnavailable,
)
from skyplane_core.spec import Outcome, Progress, ReceiptLine, TransferState

SECRET = "canary-control-secret-0123456789abcdef"
DONE = Finished("t1", 2, 1, 0, 30, 1.5, "gs://dst/in/.skyplane/t1/receipt.json")
EVENT = {"dataplane": "{}", "transfer_id": "t1"}


class FakeRun:
    transfer_id, dataplane_id, ca_fingerprint, reference, fingerprint = "t1", "dp", "fp", "{}", "asked"
    outlives_task = False

    def __init__(self, end: Finished | BaseException = DONE) -> None:
        self.end, self.calls = end, []
        self.renew_fails: BaseException | None = None
        self.stop_fails: Exception | None = None

    def wait(self, on_progress: Any) -> Finished:
        self.calls.append("wait")
        if isinstance(self.end, BaseException):
            raise self.end
        return self.end

    def renew(self, engine: Any, request: Any) -> None:
        self.calls.append("renew")
        if self.renew_fails is not None:
            raise self.renew_fails

    def take_over(self, engine: Any, request: Any) -> None:
        self.calls.append("take over")

    def cancel(self, seconds: float) -> Progress:
        self.calls.append("cancel")
        return Progress("t1", TransferState.CANCELLED)

    def leave(self) -> None:
        self.calls.append("leave")

    def stop(self) -> None:
        self.calls.append("stop")
        if self.stop_fails is not None:
            raise self.stop_fails


class FakeEngine:
    def __init__(self, run: FakeRun, refuse: Exception | None = None) -> None:
        self.run, self.refuse, self.requests = run, refuse, []
        self.discarded: list[str] = []
        self.discard_fails = False

    def discard_receipt(self, request: Any, transfer_id: str) -> None:
        if self.discard_fails:
            raise StoreUnavailable("the store is down")
        self.discarded.append(transfer_id)

    def start(self, request: Any, *, transfer_id: str | None, announce: Any) -> FakeRun:
        if self.refuse:
            raise self.refuse
        announce(self.run)
        self.requests.append(request)
        return self.run

    def attach(self, reference: str, transfer_id: str) -> FakeRun:
        self.run.calls.append("attach")
        return self.run

    def receipt(self, request: Any, transfer_id: str) -> list[ReceiptLine]:
        def line(key: str, outcome: Outcome) -> ReceiptLine:
            return ReceiptLine(key, 0, f"in/{key}", 1, "v", outcome, "")

        return [line("b", Outcome.COPIED), line("a", Outcome.COPIED), line("c", Outcome.SKIPPED)]


class TaskInstance:
    dag_id, run_id, task_id, map_index, try_number, max_tries = "d", "r", "t", -1, 1, 0

    def __init__(self) -> None:
        self.xcoms: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = value

    def xcom_pull(self, task_ids: str, key: str, map_indexes: int) -> Any:
        return self.xcoms.get(key)


def with_engine(operator: Any, run: FakeRun, refuse: Exception | None = None) -> Any:
    operator.hook.engine = FakeEngine(run, refuse)
    return operator


def copier(run: FakeRun | None = None, refuse: Exception | None = None, **kwargs: Any) -> Any:
    operator = SkyplaneOperator(task_id="t", source="s3://src/a/", destination="gs://dst/b/", **kwargs)
    return with_engine(operator, run or FakeRun(), refuse)


def drop_in(run: FakeRun | None = None, refuse: Exception | None = None, **kwargs: Any) -> Any:
    kwargs = {"dest_gcs": "gs://dst/in/", "return_gcs_uris": False, **kwargs}
    with pytest.warns(FutureWarning) if not kwargs["return_gcs_uris"] else SimpleContext():
        operator = SkyplaneS3ToGCSOperator(task_id="t", bucket="src", **kwargs)
    return with_engine(operator, run or FakeRun(), refuse)


class SimpleContext:
    def __enter__(self) -> None: ...
    def __exit__(self, *exc_info: object) -> None: ...
