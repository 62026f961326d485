"""What the drop-ins for stock transfer operators share: their run, and what they return of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_skyplane.compat import conf
from airflow_provider_skyplane.finished import Finished
from airflow_provider_skyplane.operators.base import SkyplaneBaseOperator, engine_errors
from airflow_provider_skyplane.rendered import refuse_nothing
from skyplane_core.errors import NothingToTransfer, SkyplaneError
from skyplane_core.model import AttributeRules, Compression
from skyplane_core.spec import Compare, Outcome, ReceiptLine, TransferOptions

if TYPE_CHECKING:
    from airflow_provider_skyplane.compat import Context
    from airflow_provider_skyplane.engine import Request

OWN_TEMPLATE_FIELDS = (
    "skyplane_conn_id",
    "receipt_url",
    "receipt_path",
    "receipt_conn_id",
    "report_url",
    "report_conn_id",
)
"""Come after the stock operator's own in each drop-in."""
COMPARE = ("name", "exact", "size")
_NOTHING = Finished("", 0, 0, 0, 0, 0.0, "")


class SkyplaneDropIn(SkyplaneBaseOperator):
    """Runs one request and returns what the stock operator would.

    A subclass names the stock operator's arguments and template fields (with :data:`OWN_TEMPLATE_FIELDS` behind them),
    and says what they mean: ``_check``, ``_request``, ``_names``.

    Args:
        return_summary: return a small dict of counts, as SkyplaneOperator does, instead of what the stock operator
            returns, which grows with what was copied.
    """

    destination_service = ""
    """What the log calls the destination."""

    def __init__(
        self,
        *,
        return_summary: bool = False,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(deferrable=deferrable, **kwargs)
        self.return_summary = return_summary
        self._refuse_nothing()

    def _refuse_nothing(self) -> None:
        """Of our own arguments; what nothing means as one of the stock operator's is up to that."""
        refuse_nothing({name: getattr(self, name) for name in OWN_TEMPLATE_FIELDS})

    def _check(self) -> None:
        """Refuse, in the stock operator's words, what it refuses once templates are rendered. Asks no store."""

    def _request(self) -> Request:
        raise NotImplementedError

    def _names(self, copied: Sequence[ReceiptLine]) -> Any:
        """What the stock operator returns for these copies, which are in the order of their source keys."""
        raise NotImplementedError

    def _told(self, lines: Sequence[ReceiptLine]) -> None:
        """Look at the whole receipt, for instance to log what the stock operator logs."""

    def execute(self, context: Context) -> Any:
        """Copy what has to be copied and return what the stock operator returns, or defer and do so in the end."""
        with engine_errors():
            self._refuse_nothing()
        self._check()
        try:
            return self._transfer(context)
        except NothingToTransfer:
            self._log_copied(0)
            return _NOTHING.summary() if self.return_summary else self._names([])

    def _result(self, finished: Finished) -> Any:
        request = self._request()
        names = None if self.return_summary else self._names(self._copied(request, finished.transfer_id))
        self._discard_state(request, finished.transfer_id)
        self._log_copied(finished.objects_copied)
        return {**finished.summary(), "receipt": self._kept_receipt(finished)} if self.return_summary else names

    def _kept_receipt(self, finished: Finished) -> str:
        return finished.receipt if self.receipt_url or self.receipt_path else ""

    def _copied(self, request: Request, transfer_id: str) -> list[ReceiptLine]:
        lines = list(self.hook.engine.receipt(request, transfer_id))
        self._told(lines)
        return sorted((line for line in lines if line.outcome is Outcome.COPIED), key=lambda line: line.key)

    def _discard_state(self, request: Request, transfer_id: str) -> None:
        """Whoever loads the destination with a wildcard finds objects and nothing else, as with the stock operator."""
        try:
            self.hook.engine.discard_receipt(request, transfer_id)
        except SkyplaneError as error:
            self.log.warning("The receipt of transfer %s stays at the destination: %s", transfer_id, error)

    def _log_copied(self, objects: int) -> None:
        if objects:
            self.log.info("All done, uploaded %d files to %s", objects, self.destination_service)
        else:
            self.log.info("In sync, no files needed to be uploaded to %s", self.destination_service)


class IncrementalDropIn(SkyplaneDropIn):
    """A drop-in whose ``replace=False`` leaves alone what is there already, and which carries no metadata over.

    Args:
        replace: the stock operator's: copy everything.
        compare: what makes an existing object count as there already, with ``replace=False``: its ``name`` (as the
            stock operator), its ``size``, or ``exact``: the recorded source version or the same checksum.
        preserve_metadata: carry content headers and user metadata over; otherwise a copy has what the stock operator
            gives it.
    """

    def __init__(
        self, *, replace: bool = False, compare: str = "name", preserve_metadata: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.replace = replace
        self.compare = compare
        self.preserve_metadata = preserve_metadata
        if compare not in COMPARE:
            raise ValueError(f"Invalid value for compare: {compare!r}. Expected one of {', '.join(COMPARE)}")
        if replace and compare != "name":
            raise ValueError("replace=True copies everything; leave compare out, or use replace=False")

    def _options(self, rules: AttributeRules = AttributeRules()) -> TransferOptions:
        """How this operator copies.

        Args:
            rules: attributes that every copy gets.
        """
        return TransferOptions(
            compare=Compare.ALWAYS if self.replace else Compare(self.compare),
            compression=Compression(self.compression),
            keep_attributes=self.preserve_metadata,
            record_source=self.compare == "exact",
            attributes=rules,
        )
