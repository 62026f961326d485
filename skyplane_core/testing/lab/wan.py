"""A WAN on one machine: a network namespace for each host, and a router between them that delays, loses and limits."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import msgspec

from skyplane_core.testing.lab import congestion, netns, tun
from skyplane_core.testing.lab.calls import Answer, Call, Start
from skyplane_core.testing.lab.emulation import Counters
from skyplane_core.testing.lab.errors import LabError
from skyplane_core.testing.lab.topology import Link, Topology

START_SECONDS = 60.0
STOP_SECONDS = 30.0
_numbers = itertools.count(1)


class Wan:
    """The hosts of a topology, each with the network that it would have. A context manager; needs root.

    Args:
        topology: hosts and links.
        congestion: default congestion control of all hosts, such as "cubic". None: the machine's default.
        allowed_congestion: what programs of the hosts may choose with TCP_CONGESTION; they run without CAP_NET_ADMIN
        then.
            As long as the lab lives this holds for the whole machine, and only one lab can have it. None: as it is.
        sysctls: further settings for each namespace, such as ``{"net.ipv4.tcp_wmem": "4096 65536 67108864"}``.

    Raises:
        LabError: if the machine cannot carry a lab; nothing is left then.
    """

    def __init__(
        self,
        topology: Topology,
        *,
        congestion: str | None = None,
        allowed_congestion: Sequence[str] | None = None,
        sysctls: Mapping[str, str] | None = None,
    ) -> None:
        self.topology = topology
        self._congestion = congestion
        self._allowed = allowed_congestion
        # What TCP learnt of a path in one connection would decide about the next one.
        self._sysctls = {
            "net.ipv6.conf.all.disable_ipv6": "1",
            "net.ipv4.tcp_no_metrics_save": "1",
            **(sysctls or {}),
        }
        prefix = f"lab-{os.getpid()}-{next(_numbers)}"
        self._namespaces = {host.name: f"{prefix}-{host.name}" for host in topology.hosts}
        if congestion and allowed_congestion is not None and congestion not in allowed_congestion:
            raise ValueError(
                f"congestion control {congestion!r} is not among those allowed: {list(allowed_congestion)}"
            )
        self._stack = contextlib.ExitStack()
        self._router: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Wan:
        netns.check_machine("ip", "setpriv")
        with contextlib.ExitStack() as stack:
            self.directory = Path(
                stack.enter_context(tempfile.TemporaryDirectory(prefix="skyplane-lab-", ignore_cleanup_errors=True))
            )
            if self._allowed is not None:
                stack.enter_context(congestion.allowed(self._allowed))
            for namespace in self._namespaces.values():
                stack.callback(netns.remove, namespace)
                netns.add(namespace, self._sysctls)
            if self._congestion:
                congestion.set_default(list(self._namespaces.values()), self._congestion)
            stack.callback(self._stop_router)
            self._start_router()
            addresses = [host.ip for host in self.topology.hosts]
            for host in self.topology.hosts:
                peers = [address for address in addresses if address != host.ip]
                tun.configure(self._namespaces[host.name], host.ip, self.topology.mtu, peers)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Power everything off: no process, namespace, device or file of the lab is left. May be called again."""
        self._stack.close()

    def at_close(self, callback: Callable[[], None]) -> None:
        """Have something of this lab ended before the lab itself is."""
        self._stack.callback(callback)

    # --- the router ---------------------------------------------------------------------------------------------------

    def _start_router(self) -> None:
        command = [sys.executable, "-m", "skyplane_core.testing.lab.router"]
        self._router = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        watchdog = threading.Timer(START_SECONDS, self._router.kill)
        watchdog.start()
        try:
            self._exchange(Start(self.topology, list(self._namespaces.values()), str(self.directory)))
        finally:
            watchdog.cancel()
            watchdog.join()

    def _stop_router(self) -> None:
        router, self._router = self._router, None
        if router is None:
            return
        with contextlib.suppress(BrokenPipeError):
            cast("Any", router.stdin).close()
        try:
            router.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            router.kill()
            router.wait()
        cast("Any", router.stdout).close()

    def _exchange(self, message: Start | Call) -> Answer:
        router = self._router
        if router is None:
            raise LabError("this lab has not been started, or is closed")
        with self._lock:
            try:
                cast("Any", router.stdin).write(msgspec.json.encode(message) + b"\n")
                cast("Any", router.stdin).flush()
            except BrokenPipeError:
                line = b""
            else:
                line = cast("Any", router.stdout).readline()
        if not line:
            raise LabError(f"the lab's router ended (exit status {router.wait()}); its words are on standard error")
        answer = msgspec.json.decode(line, type=Answer)
        if answer.error:
            raise LabError(answer.error)
        return answer

    # --- what a test does ---------------------------------------------------------------------------------------------

    def cut(self, first: str, second: str) -> None:
        """Part two hosts: nothing reaches the other any more, what is on its way included. Nobody is told."""
        self.topology.host(first), self.topology.host(second)
        self._exchange(Call(cut=(first, second)))

    def heal(self, first: str, second: str) -> None:
        """Join two hosts again."""
        self.topology.host(first), self.topology.host(second)
        self._exchange(Call(heal=(first, second)))

    def unplug(self, host: str) -> None:
        """Take a host off the network: nothing leaves or reaches it. Nobody is told."""
        self.topology.host(host)
        self._exchange(Call(unplug=host))

    def plug(self, host: str) -> None:
        """Put a host on the network again."""
        self.topology.host(host)
        self._exchange(Call(plug=host))

    def change(self, source: str, target: str, **figures: float) -> Link:
        """Change a link between two regions, such as ``loss_percent=1``, and return it as it is now.

        Raises:
            ValueError: if there is no such link, or it cannot be so.
        """
        changed = {**msgspec.structs.asdict(self.topology.link(source, target)), **figures}
        link = msgspec.convert(changed, Link)
        others = tuple(link if (it.source, it.target) == (source, target) else it for it in self.topology.links)
        self._exchange(Call(link=link))
        self.topology = msgspec.structs.replace(self.topology, links=others)
        return link

    def counters(self, source: str, target: str) -> Counters:
        """What the link between two regions has seen so far."""
        self.topology.link(source, target)
        return next(c for c in self._exchange(Call()).counters if (c.source, c.target) == (source, target))

    @property
    def cpu_seconds(self) -> float:
        """Processor time that the router has taken so far."""
        return self._exchange(Call()).cpu_seconds

    def namespace(self, host: str) -> str:
        """The name of a host's network namespace, for ip-netns(8)."""
        self.topology.host(host)
        return self._namespaces[host]

    def command(self, host: str, command: Sequence[str]) -> list[str]:
        """The command that runs a program of this machine with the network of a host."""
        return ["ip", "netns", "exec", self.namespace(host), *self.unprivileged, *command]

    @property
    def unprivileged(self) -> list[str]:
        """The words before a command that keep it from choosing a congestion control that is not allowed."""
        if self._allowed is None:
            return []
        return ["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"]

    @contextlib.contextmanager
    def inside(self, host: str) -> Iterator[None]:
        """The calling thread is in a host's network inside the block; a socket made there stays there."""
        with netns.entered(self.namespace(host)):
            yield
