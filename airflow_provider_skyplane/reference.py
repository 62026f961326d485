"""Which transfer somebody means, by what its task has left in XCom, or by its id. Pure."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping

from skyplane_core.errors import UsageError
from skyplane_core.spec import STATE_SEGMENT

_ID = re.compile(r"[0-9a-f]{32}")
_HOW = (
    "Give the id alone, or what the transfer's task has left: "
    "copy.output, or copy.output['skyplane_run'] while it is deferred."
)


@dataclasses.dataclass(frozen=True)
class TransferReference:
    """A transfer, its gateways as far as they are known, and where its state is as far as that is known.

    Args:
        dataplane: the reference of its dataplane as JSON, or empty.
        destination: a prefix below which its receipt is, or empty.
    """

    transfer_id: str
    dataplane: str = ""
    destination: str = ""

    @classmethod
    def of(cls, said: object) -> TransferReference:
        """The transfer that ``said`` names.

        Args:
            said: an id; a mapping with ``transfer_id`` and, if known, ``dataplane`` and ``receipt``, as operators leave
                it in XCom; or such a mapping as JSON.

        Raises:
            UsageError: it is none of these.
        """
        if isinstance(said, str) and said.lstrip().startswith("{"):
            said = _decoded(said)
        if isinstance(said, str):
            said = {"transfer_id": said}
        if not isinstance(said, Mapping):
            raise UsageError(f"no transfer is named by {_shown(said)}", next_step=_HOW)
        transfer_id, dataplane = said.get("transfer_id"), said.get("dataplane") or ""
        if not isinstance(transfer_id, str) or not _ID.fullmatch(transfer_id):
            raise UsageError(
                f"{_shown(transfer_id)} is no transfer's id", why="it has 32 hexadecimal digits", next_step=_HOW
            )
        if not isinstance(dataplane, str):
            dataplane = json.dumps(dataplane)
        return cls(transfer_id, dataplane, _destination(str(said.get("receipt") or ""), transfer_id))


def _destination(receipt: str, transfer_id: str) -> str:
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
