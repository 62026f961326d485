"""Which transfer somebody means, by what its task has left in XCom, or by its id. Pure."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping

from airflow_provider_skyplane.several import joined, separate
from skyplane_core.errors import UsageError
from skyplane_core.spec import STATE_SEGMENT

_ID = re.compile(r"[0-9a-f]{32}")
_HOW = (
    "Give the id alone, or what the transfer's task has left: its return value, as in copy.output, or the XCom "
    "'skyplane_run' as JSON."
)


@dataclasses.dataclass(frozen=True)
class TransferReference:
    """A transfer, or the several of one task; their gateways, and where their state is, as far as that is known.

    Args:
        transfer_id: of several, see :func:`several.joined`.
        dataplane: the reference of their dataplane as JSON, or empty.
        destinations: of each, a prefix below which its receipt is, or empty.
    """

    transfer_id: str
    dataplane: str = ""
    destinations: tuple[str, ...] = ("",)

    @classmethod
    def of(cls, said: object) -> TransferReference:
        """The transfer that ``said`` names.

        Args:
            said: an id; a mapping with ``transfer_id`` and, if known, ``dataplane`` and ``receipt``, as operators leave
                it in XCom, or with such ``destinations``; or such a mapping as JSON.

        Raises:
            UsageError: it is none of these.
        """
        if isinstance(said, str) and said.lstrip().startswith("{"):
            said = _decoded(said)
        if isinstance(said, str):
            said = {"transfer_id": said}
        if not isinstance(said, Mapping):
            raise UsageError(f"no transfer is named by {_shown(said)}", next_step=_HOW)
        if isinstance(each := said.get("destinations"), (list, tuple)) and each:
            one = [cls.of(destination) for destination in each]
            return cls(joined([own.transfer_id for own in one]), "", tuple(own.destinations[0] for own in one))
        transfer_id, dataplane = said.get("transfer_id"), said.get("dataplane") or ""
        ids = separate(transfer_id) if isinstance(transfer_id, str) else []
        if not isinstance(transfer_id, str) or not all(map(_ID.fullmatch, ids)):
            raise UsageError(
                f"{_shown(transfer_id)} is no transfer's id", why="it has 32 hexadecimal digits", next_step=_HOW
            )
        receipts = [str(said.get("receipt") or "")] if len(ids) == 1 else [""] * len(ids)
        return cls(
            transfer_id,
            dataplane if isinstance(dataplane, str) else json.dumps(dataplane),
            tuple(_above(receipt, own) for receipt, own in zip(receipts, ids, strict=True)),
        )


def _above(receipt: str, transfer_id: str) -> str:
    """What is above the state that a receipt's URI leads into; empty for one that was asked for elsewhere."""
    root, found, _ = receipt.partition(f"{STATE_SEGMENT}/{transfer_id}/")
    return root if found else ""


def _decoded(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError as error:
        raise UsageError(f"no JSON: {_shown(text)}", why=str(error), next_step=_HOW) from error


def _shown(said: object) -> str:
    return repr(said)[:100]
