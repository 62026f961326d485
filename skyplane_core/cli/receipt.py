"""``--receipt``: an object that the head writes, or a file of this machine, which the command itself writes."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from skyplane_core.cli.show import Show
from skyplane_core.errors import SkyplaneError, UsageError
from skyplane_core.locations import Location, resolve
from skyplane_core.model import StoreConfig
from skyplane_core.receipt_place import at_hand, check_aside, check_format, receipt_name
from skyplane_core.spec import ReceiptPlace, TransferSpec
from skyplane_core.store_options import StoreOptions
from skyplane_core.tracker import Result
from skyplane_core.uri import parse


class ReceiptRequest:
    """Where the user wants the receipt.

    Args:
        text: as it was typed; None for nowhere.
        endpoint_url: of an S3-compatible server or an emulator.

    Raises:
        InvalidURI, UsageError: nothing can be written there.
    """

    def __init__(self, text: str | None, endpoint_url: str = "") -> None:
        self._endpoint_url = endpoint_url
        self._uri = self._path = ""
        if text is None:
            return
        endpoint = parse(text, cwd=str(Path.cwd()))
        if endpoint.kind == "local":
            self._path = endpoint.key
            _check_path(self._path)
        else:
            self._uri = text

    def location(self, *ends: Location) -> Location | None:
        """For the head, where it is an object; with the credentials of an end in the same bucket, if there is one."""
        if not self._uri:
            return None
        return (None if self._endpoint_url else at_hand(self._uri, *ends)) or self.resolved()

    def resolved(self) -> Location:
        """The object with the environment's credentials for it."""
        return resolve(self._uri, options=StoreOptions(endpoint_url=self._endpoint_url), written=True)

    def check(self, spec: TransferSpec) -> None:
        """Refuse a file among the objects of the transfer.

        Raises:
            UsageError: it names the file.
        """
        if self._path:
            directory, name = os.path.split(os.path.realpath(receipt_name(self._path, spec.transfer_id)))
            check_aside(msgspec.structs.replace(spec, receipt=ReceiptPlace(StoreConfig("local", directory), name)))

    def save(self, result: Result, show: Show) -> None:
        """Write the file, if it is one.

        Raises:
            SkyplaneError: the receipt of a transfer that succeeded could not be read.
        """
        if not self._path:
            return
        try:
            result.save(receipt_name(self._path, result.progress.transfer_id))
        except SkyplaneError as error:
            if result.ok:
                raise
            # Why the transfer failed matters more than that it left no receipt.
            show.note(f"The receipt could not be read: {error}")


def _check_path(name: str) -> None:
    path = Path(name)
    inside = path if name.endswith("/") else path.parent
    taken = path.is_dir() and not name.endswith("/")
    if taken or not inside.is_dir() or not os.access(path if path.exists() else inside, os.W_OK):
        raise UsageError(
            "the receipt cannot be written there", where=name, next_step="Name a file in a writable directory."
        )
    check_format(name, remote=False)
