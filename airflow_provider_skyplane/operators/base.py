"""The life of one transfer as a task: start, wait or defer, come back, tear down."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import socket
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn, cast

from airflow_provider_skyplane.compat import AirflowException, BaseOperator, BaseOperatorLink, conf
from airflow_provider_skyplane.durable import DestinationReferences, References, StateStoreReferences
from airflow_provider_skyplane.ends import is_literal
from airflow_provider_skyplane.extras import Extras
from airflow_provider_skyplane.finished import Finished
from airflow_provider_skyplane.hooks.settings import gateway_count
from airflow_provider_skyplane.hooks.skyplane import DEFAULT_CONN_ID, SkyplaneHook
from airflow_provider_skyplane.lineage import Lineage
from airflow_provider_skyplane.links.report import SkyplaneReportLink, push_link
from airflow_provider_skyplane.reconnect import CANCEL_SECONDS, Ending, Found, Reconnection, elsewhere, end
from airflow_provider_skyplane.rendered import truth
from airflow_provider_skyplane.reports import cancelled
from skyplane_core.errors import NothingToTransfer, SkyplaneError
from skyplane_core.model import Compression
from skyplane_core.progress_lines import ProgressLines
from skyplane_core.receipt_place import format_of
from skyplane_core.spec import Progress
from skyplane_core.uri import parse

if TYPE_CHECKING:
    from airflow_provider_skyplane.compat import Context
    from airflow_provider_skyplane.engine import FanOut, Location, Request, Run

RUN_XCOM_KEY = "skyplane_run"
"""Under this key a task leaves the dataplane's reference (no secret), for who has to end it when the task cannot."""
FAILED_XCOM_KEY = "skyplane_failed"
"""Under this key a transfer that failed leaves its summary, with the first failures, for callbacks and later tasks."""

KILL_CANCEL_SECONDS = 3.0
"""The same for a task that is killed: Airflow kills a process that has not ended 5 s after it was told to."""
_TRIGGER_DIED = "__fail__"


@contextlib.contextmanager
def engine_errors() -> Iterator[None]:
    """Turn the engine's errors into AirflowException. NothingToTransfer passes: the operator says what it means."""
    try:
        yield
    except NothingToTransfer:
        raise
    except SkyplaneError as error:
        raise AirflowException(str(error)) from error


def _nowhere() -> Context:
    """What a task gets of Airflow outside of a run, as in somebody's own test that calls ``execute(None)``."""
    return cast("Context", {})


class SkyplaneBaseOperator(Lineage, BaseOperator):
    """Runs the request that a subclass builds.

    Args:
        skyplane_conn_id: connection of type ``skyplane``. ``skyplane_default`` need not exist.
        gateways: 1 reads and writes in one gateway; 2 sends encrypted, compressed frames between two; 3 puts a relay
            between these. Default: the connection's setting.
        compression: ``auto``, ``lz4`` or ``none``, between gateways. Default: the connection's, else ``auto``.
        receipt_url: where the receipt is to be as well, before the task succeeds: an object or a file in any store that
            the engine can write, or a prefix that ends in ``/``, which gets ``<transfer id>.jsonl``. A name that ends
            in ``.jsonl.gz`` or ``.parquet`` says another format. (templated)
        receipt_path: short for a ``receipt_url`` in the destination's bucket: a key prefix. (templated)
        receipt_conn_id: connection for the receipt's store; default that of the end which is in a store of the same
            kind, else ``aws_default`` or ``google_cloud_default``. (templated)
        report_url: where the worker writes the page of the report once the transfer has ended, well or not: an object
            or a file, or a prefix that ends in ``/``, which gets ``<transfer id>.html``. (templated)
        report_conn_id: connection for the report's store; default ``aws_default``, ``google_cloud_default`` or
            ``wasb_default``. (templated)
        deferrable: free the worker slot while gateways work.
        poll_interval: seconds between two looks at the transfer while deferred.
        durable: a retry goes on with the transfer that a try has started whose process died, if that is running or has
            ended well, instead of starting another. Needs a control secret in the connection.
        local_gateways_outlive_task: that processes started by a task survive its deferral here, and that the triggerer
            runs on the same host. Default: ``[skyplane] local_gateways_outlive_task``.
    """

    operator_extra_links: Collection[BaseOperatorLink] = (SkyplaneReportLink(),)

    _run: Run | None = None
    _heard: Progress | None = None

    def __init__(
        self,
        *,
        skyplane_conn_id: str | None = DEFAULT_CONN_ID,
        gateways: int | None = None,
        compression: str | None = None,
        receipt_url: str | None = None,
        receipt_path: str | None = None,
        receipt_conn_id: str | None = None,
        report_url: str | None = None,
        report_conn_id: str | None = None,
        deferrable: bool = False,
        poll_interval: float = 10,
        durable: bool = True,
        local_gateways_outlive_task: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if isinstance(poll_interval, str):
            raise ValueError(f"Invalid value for poll_interval: {poll_interval!r}. Expected a number of seconds")  # noqa: TRY004
        if not 0 < poll_interval < math.inf:
            raise ValueError("Invalid value for poll_interval. Expected value greater than 0")
        known = [member.value for member in Compression]
        if compression is not None and compression not in known:
            raise ValueError(f"Invalid value for compression: {compression!r}. Expected one of {', '.join(known)}")
        if receipt_url and receipt_path:
            raise ValueError("receipt_path is short for a receipt_url at the destination; give one of them")
        if receipt_url and is_literal(receipt_url):
            parse(receipt_url)
            format_of(receipt_url)
        if report_url and is_literal(report_url):
            parse(report_url)
        self.skyplane_conn_id = skyplane_conn_id
        self.gateways = None if gateways is None else gateway_count(gateways)
        self.compression = compression or Compression.AUTO.value
        self._compression = compression
        self.receipt_url = receipt_url
        self.receipt_path = receipt_path
        self.receipt_conn_id = receipt_conn_id
        self.report_url = report_url
        self.report_conn_id = report_conn_id
        self.deferrable = truth("deferrable", deferrable)
        self.poll_interval = poll_interval
        self.durable = truth("durable", durable)
        self.local_gateways_outlive_task = (
            None
            if local_gateways_outlive_task is None
            else truth("local_gateways_outlive_task", local_gateways_outlive_task)
        )

    @cached_property
    def hook(self) -> SkyplaneHook:
        """The hook of this task's connection."""
        return SkyplaneHook(self.skyplane_conn_id, gateways=self.gateways, compression=self._compression)

    def _receipt(
        self, bucket: str, connections: Mapping[str, str | None], impersonation_chain: str | Sequence[str] | None = None
    ) -> Callable[[], Location | str] | None:
        """Where the receipt goes besides the destination's ``.skyplane/``; None if nobody asked.

        Args:
            bucket: the destination's bucket or root, such as ``gs://bucket``.
            connections: the ends' connections, by the kind of their stores.
        """
        uri = self.receipt_url or (f"{bucket}/{self.receipt_path.strip('/')}/" if self.receipt_path else "")
        if not uri:
            return None
        conn_id = self.receipt_conn_id or connections.get(parse(uri).kind)
        return lambda: self.hook.place(uri, conn_id, impersonation_chain=impersonation_chain, written=True)

    def _request(self) -> Request | FanOut:
        """What to move, once templates are rendered. Bad input is refused here, before anything is started."""
        raise NotImplementedError

    def _named(self, finished: Finished) -> Finished:
        """``finished`` with the names of several destinations, which gateways do not know."""
        return finished

    def _result(self, finished: Finished) -> Any:
        """The task's return value for a transfer that succeeded. Called while its gateways may already be gone."""
        raise NotImplementedError

    def _transfer(self, context: Context) -> Any:
        """Start the request, or go on with what an earlier try has started; then wait for its end or defer.

        Raises:
            AirflowException: the transfer failed, or could not be started.
            NothingToTransfer: the source holds nothing.
        """
        context = context or _nowhere()
        push_link(context, self.log)
        with engine_errors():
            request = self._request()
            found = self._earlier(context, request)
            self._run = run = found.run or self._start(context, request, found.transfer_id)
        if found.finished is not None:
            return self._complete(context, run, found.finished)
        try:
            if found.run is not None:
                self._join(context, run, request)
            self.log.info("Transfer %s is running on dataplane %s.", run.transfer_id, run.dataplane_id)
            defers = self._may_defer(run)
        except BaseException:
            self._abandon(context, run)
            raise
        if defers:
            # Airflow does not enforce execution_timeout on a deferred task, and a defer timeout would bypass us.
            limit = self.execution_timeout
            self._defer(run, time.time() + limit.total_seconds() if limit else None)
        return self._wait(context, run)

    def _start(self, context: Context, request: Request | FanOut, transfer_id: str | None) -> Run:
        def announce(run: Run) -> None:
            # Before anything is moved: whatever becomes of this process, the next one finds what it has started.
            self._run = run
            reconnection = self._reconnection(context, lambda: request)
            if reconnection is not None:
                reconnection.save(run)
            self._push_run(context, run)

        return self.hook.engine.start(request, transfer_id=transfer_id, announce=announce)

    def _earlier(self, context: Context, request: Request | FanOut) -> Found:
        reconnection = self._reconnection(context, lambda: request)
        if reconnection is None or context["ti"].try_number <= 1:
            return Found()
        return reconnection.find()

    def _join(self, context: Context, run: Run, request: Request | FanOut) -> None:
        self._push_run(context, run)
        with engine_errors():
            run.take_over(self.hook.engine, request)

    def _reconnection(self, context: Context, request: Callable[[], Request | FanOut]) -> Reconnection | None:
        """By which a retry finds this task's transfer; None where none could."""
        # Outside of a task run, as in somebody's own test, there are no retries.
        if not self.durable or "ti" not in context or not self.hook.reachable_later:
            return None
        ti, store = context["ti"], context.get("task_state_store")
        references: References
        if store is not None:
            references = StateStoreReferences(store)
        else:
            name = (ti.dag_id, ti.run_id, ti.task_id, ti.map_index)
            references = DestinationReferences(self.hook.engine, request(), name)
        return Reconnection(self.hook.engine, request, references, ti.max_tries, self.log)

    def _forget(self, context: Context, run: Run) -> None:
        """The transfer has ended, and nobody is to come back to it. If that cannot be noted, nobody is hurt."""
        try:
            reconnection = self._reconnection(context, self._request)
            if reconnection is not None:
                reconnection.forget(run)
        except Exception as error:  # noqa: BLE001  # what counts is how the transfer ended, and no retry trusts an id
            self.log.warning("The reference to an ended transfer could not be deleted: %s", error)

    def _wait(self, context: Context, run: Run) -> Any:
        try:
            with engine_errors():
                finished = run.wait(self._log_progress(ProgressLines()))
        except BaseException:
            self._abandon(context, run)
            raise
        return self._complete(context, run, finished)

    def _complete(self, context: Context, run: Run, finished: Finished) -> Any:
        finished = self._named(finished)
        result: Any = None
        try:
            if finished.compression:
                self.log.info("Compression: %s.", finished.compression)
            if finished.failed:
                self._push_failed(context, finished)
            else:
                # If this fails, the next try comes back to what has arrived.
                with engine_errors():
                    result = self._result(finished)
        finally:
            self._tear_down(context, run)
        self._forget(context, run)
        self._leave_extras(context, finished)
        if finished.failed:
            raise AirflowException(finished.failure_text())
        return result

    def _may_defer(self, run: Run) -> bool:
        if not self.deferrable:
            return False
        if not self.hook.reachable_later:
            self.log.warning(
                "deferrable=True needs a control secret in the password of connection %r, by which the triggerer "
                "proves itself to the gateways. Running to the end on this worker instead.",
                self.skyplane_conn_id,
            )
            return False
        outlives: bool | None = run.outlives_task or self.local_gateways_outlive_task
        if outlives is None:
            outlives = conf.getboolean("skyplane", "local_gateways_outlive_task", fallback=False)
        if not outlives:
            self.log.warning(
                "deferrable=True with local gateways, which might die with this task's process. Running to the end on "
                "this worker instead. Set local_gateways_outlive_task=True where the host lives on."
            )
        return bool(outlives)

    def _push_run(self, context: Context, run: Run) -> None:
        # Nobody else can reach a dataplane whose control secret is this process's own.
        if "ti" in context and self.hook.reachable_later:
            left = {"dataplane": run.reference, "transfer_id": run.transfer_id, "host": socket.gethostname()}
            context["ti"].xcom_push(key=RUN_XCOM_KEY, value={**left, "ended": False})

    def _pushed_run(self, context: Context) -> dict[str, Any] | None:
        ti = context["ti"]
        left: dict[str, Any] | None = ti.xcom_pull(task_ids=self.task_id, key=RUN_XCOM_KEY, map_indexes=ti.map_index)
        return left

    def _note_end(self, context: Context, run: Run) -> None:
        """Its gateways have been ended. If that cannot be noted, who ends what is left looks for them."""
        try:
            left = self._pushed_run(context) if "ti" in context else None
            # Processes of another machine are only known not to run here.
            if left and not elsewhere(run, left["host"]):
                context["ti"].xcom_push(key=RUN_XCOM_KEY, value={**left, "ended": True})
        except Exception as error:  # noqa: BLE001  # what counts is how the transfer ended
            self.log.warning("The end of transfer %s could not be noted: %s", run.transfer_id, error)

    def _push_failed(self, context: Context, finished: Finished) -> None:
        # Outside of a task run, as in somebody's own test, there is nobody to leave it to.
        if "ti" in context:
            context["ti"].xcom_push(key=FAILED_XCOM_KEY, value=finished.summary())

    def _defer(self, run: Run, deadline: float | None, renew_not_before: float = 0.0) -> NoReturn:
        from airflow_provider_skyplane.triggers.skyplane import RESUME_NOT_BEFORE_SECONDS, SkyplaneTransferTrigger

        run.leave()
        self.defer(
            trigger=SkyplaneTransferTrigger(
                dataplane=run.reference,
                transfer_id=run.transfer_id,
                skyplane_conn_id=str(self.skyplane_conn_id),
                ca_fingerprint=run.ca_fingerprint,
                poll_interval=self.poll_interval,
                deadline=deadline,
                not_before=time.time() + RESUME_NOT_BEFORE_SECONDS,
                renew_not_before=renew_not_before,
            ),
            method_name="execute_complete",
        )

    def execute_complete(
        self,
        context: Context,
        event: dict[str, Any] | None = None,
    ) -> Any:
        """Resume after the trigger's event; the same return value as without deferring. Idempotent."""
        context = context or _nowhere()
        if event is None:
            raise AirflowException("The trigger resumed this task without an event.")
        with engine_errors():
            self._run = run = self.hook.engine.attach(event["dataplane"], event["transfer_id"])
        status = event["status"]
        if status == "success":
            return self._complete(context, run, Finished(**event["finished"]))
        if status == "renew":
            from airflow_provider_skyplane.triggers.skyplane import RENEW_PAUSE_SECONDS

            self._renew(context, run)
            self._defer(run, event.get("deadline"), time.time() + RENEW_PAUSE_SECONDS)
        if "finished" in event:
            finished = self._named(Finished(**event["finished"]))
            self._push_failed(context, finished)
            self._leave_extras(context, finished)
            self._end(context, run)
            raise AirflowException(finished.failure_text())
        self._abandon(context, run)
        raise AirflowException(event["message"])

    def _renew(self, context: Context, run: Run) -> None:
        try:
            run.renew(self.hook.engine, self._request())
            self.log.info("The gateways of transfer %s were given fresh credentials.", run.transfer_id)
        except Exception as error:  # noqa: BLE001  # those in use still work; if none ever come, the transfer fails
            self.log.warning(
                "There are no fresh credentials for transfer %s yet: %s: %s",
                run.transfer_id,
                type(error).__name__,
                error,
            )
        except BaseException:
            self._abandon(context, run)
            raise

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """As Airflow's, but a transfer whose trigger died is cancelled first: execute_complete is not called then."""
        if next_method == _TRIGGER_DIED and (left := self._pushed_run(context)):
            self._abandon_reference(context, left)
        return super().resume_execution(next_method, next_kwargs, context)

    def _abandon_reference(self, context: Context, left: dict[str, str]) -> None:
        try:
            run = self.hook.engine.attach(left["dataplane"], left["transfer_id"])
        except (SkyplaneError, AirflowException) as error:
            # The trigger's own failure is what the task reports; gateways that stay alone end by their expiry.
            self.log.warning("Could not reach the gateways to cancel transfer %s: %s", left["transfer_id"], error)
            return
        self._abandon(context, run)

    def on_kill(self) -> None:
        """Cancel the transfer and stop its gateways."""
        if (run := self._run) is not None:
            # A signal has interrupted this thread, perhaps in the middle of a call to the gateways, whose connection
            # is taken then: hence others. What Airflow keeps for the next try is not in reach here, either.
            ending = end(self.hook.engine.attach(run.reference, run.transfer_id), KILL_CANCEL_SECONDS, self.log)
            # The report is left by whoever finds the gateways gone: this thread, once the handler has returned.
            self._heard = ending.progress or self._heard

    def _abandon(self, context: Context, run: Run) -> None:
        """Cancel and tear down on the way out of a failure; that failure stays the one that is reported."""
        heard = self._end(context, run).progress or self._heard
        if heard is not None:
            self._leave_extras(context, self._named(Finished.of(cancelled(heard))))

    def _end(self, context: Context, run: Run) -> Ending:
        ending = end(run, CANCEL_SECONDS, self.log)
        self._run = None
        if ending.certain:
            self._note_end(context, run)
        if ending.orderly:
            self._forget(context, run)
        # Else the next try finds what it left open, or that it goes on.
        return ending

    def _tear_down(self, context: Context, run: Run) -> None:
        try:
            run.stop()
        except SkyplaneError as error:
            self.log.warning("Could not stop dataplane %s, which ends by its expiry: %s", run.dataplane_id, error)
        else:
            self._note_end(context, run)
        self._run = None

    def _log_progress(self, lines: ProgressLines) -> Callable[[Progress], None]:
        def say(progress: Progress) -> None:
            self._heard = progress
            if line := lines.line(progress, time.monotonic()):
                self.log.info(line)

        return say

    def _kept_receipt(self, finished: Finished) -> str:
        """Where the receipt is once the task has succeeded; empty if none is kept."""
        return finished.receipt

    def _leave_extras(self, context: Context, finished: Finished) -> None:
        if not finished.failed:
            finished = dataclasses.replace(finished, receipt=self._kept_receipt(finished))
        self._finished = finished
        Extras(context, self.outlets, self.log, self._save_report if self.report_url else None).leave(finished)

    def _save_report(self, transfer_id: str, page: bytes) -> None:
        uri = str(self.report_url)
        if uri.endswith("/"):
            uri += f"{transfer_id}.html"
        chain = getattr(self, "google_impersonation_chain", None)
        place = self.hook.place(uri, self.report_conn_id, chain, written=True)
        self.hook.engine.write(place, page, "text/html; charset=utf-8")
        self.log.info("The report of transfer %s is %s", transfer_id, uri)
