"""Talking to the script that runs on a gateway's host (:mod:`skyplane_core.provision.ssh_remote`)."""

from __future__ import annotations

import logging
import shlex
from importlib.resources import files
from typing import Any, TypeVar

import msgspec

from skyplane_core.errors import GatewayError, GatewayRefused, GatewayUnreachable, ProvisionFailed
from skyplane_core.provision.hosts import SshHost
from skyplane_core.provision.ssh_client import RemoteCommand, SshConnection

log = logging.getLogger(__name__)

T = TypeVar("T")

ANSWER_SECONDS = 60.0
"""How long a host may take over one step; copying counts as many steps."""

_MARK = b"skyplane: "
_CLEAN_SECONDS = 20.0
_MAX_LINE = 256 * 1024
_LOADER = 'import sys;exec(compile(sys.stdin.buffer.read(int(sys.stdin.buffer.readline())),"ssh_remote.py","exec"))'


class Failure(msgspec.Struct, frozen=True):
    """What the remote script says when something does not work."""

    error: str
    why: str = ""
    log: str = ""


class Conversation:
    """With the script on one host: requests and answers in turn. For one thread.

    Raises:
        GatewayUnreachable: the connection is lost, or the host opens no session.
    """

    def __init__(self, host: SshHost, connection: SshConnection, request: dict[str, Any]) -> None:
        self._host = host
        # -I and -S: no file in the working directory, no variable and no site-packages of the host takes part.
        self._command: RemoteCommand = connection.run(
            f"exec {shlex.quote(host.python)} -I -S -c {shlex.quote(_LOADER)}"
        )
        script = files("skyplane_core.provision").joinpath("ssh_remote.py").read_bytes()
        try:
            self.send(b"%d\n" % len(script) + script)
            self.tell(request)
        except GatewayUnreachable:
            # It ended at once; its exit status, which is read next, says why.
            log.debug("the host took no request", exc_info=True)

    def tell(self, value: dict[str, Any]) -> None:
        """Send one request."""
        self.send(msgspec.json.encode(value) + b"\n")

    def send(self, data: bytes | memoryview) -> None:
        """Send what the last request announced."""
        self._command.write(data, ANSWER_SECONDS)

    def answer(self, kind: type[T], seconds: float = ANSWER_SECONDS) -> T:
        """The next answer.

        Raises:
            ProvisionFailed: it is a failure, or there is none.
        """
        while line := self._command.read_line(seconds, _MAX_LINE):
            # Anything else is what the login shell's own files print.
            if line.startswith(_MARK):
                break
        else:
            raise self._no_answer()
        text = line[len(_MARK) :]
        try:
            if b'"error"' in text[:10]:
                raise self._failure(msgspec.json.decode(text, type=Failure))
            return msgspec.json.decode(text, type=kind)
        except msgspec.MsgspecError as error:
            raise GatewayRefused(
                "the host's answer cannot be understood", where=self._host.label, why=str(error)
            ) from error

    def give_up(self) -> None:
        """Wait until the script has removed what it made, which it does when its input ends."""
        try:
            self._command.end_input()
            while self._command.read_line(_CLEAN_SECONDS, _MAX_LINE):
                pass
        except (GatewayUnreachable, OSError) as error:
            # It does so without being watched as well, and why it was given up matters more.
            log.debug("%s", error)

    def close(self) -> None:
        """Leave the script to itself."""
        self._command.close()

    def _no_answer(self) -> ProvisionFailed:
        status, error = self._command.outcome(5.0)
        if status in {126, 127}:
            return ProvisionFailed(
                f"the host has no {self._host.python}",
                where=self._host.label,
                why=error,
                next_step="Install Python there, or name another interpreter with python = ... in the hosts file.",
            )
        return ProvisionFailed(
            f"{self._host.python} on the host ended with exit status {status}", where=self._host.label, why=error
        )

    def _failure(self, failure: Failure) -> GatewayError:
        what, step = FAILURES.get(failure.error, (f"the host failed ({failure.error})", ""))
        why = f"{failure.why}\n{failure.log.strip()}" if failure.log else failure.why
        return ProvisionFailed(what, where=self._host.label, why=why, next_step=step)


FAILURES = {
    "start": ("the gateway did not start", ""),
    "hash": ("the bundle did not arrive whole", "Try again; build it again if that persists: skyplane bundle build."),
    "space": ("the host's disk is full", "Make room, or name another place with directory = ... in the hosts file."),
    "ports": ("too few ports are free", "Widen ports = ... in the hosts file, or stop what uses them."),
    "absent": ("there is nothing of this gateway on the host any more", ""),
    "system": ("the host's system refuses", "Check permissions, and directory = ... in the hosts file."),
}
