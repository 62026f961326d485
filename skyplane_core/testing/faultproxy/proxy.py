"""The proxy: one thread that accepts, forwards and has faults strike; stopping ends it and every socket."""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Any

from skyplane_core.testing.faultproxy.connection import READ, Connection
from skyplane_core.testing.faultproxy.faults import TO_CLIENT, TO_SERVER, ProxyFault, Rule
from skyplane_core.testing.faultproxy.flow import Flow

log = logging.getLogger(__name__)

DIRECTIONS = (TO_SERVER, TO_CLIENT)
BACKLOG = 128
CALL_SECONDS = 60.0
"""How long a call waits for the proxy's thread, which a callback may hold up."""


class FaultProxy:
    """Forwards connections to ``target``, until it is told to do worse. A context manager; all calls are thread-safe.

    Args:
        target: host and port.
        faults: rules from the start; see :meth:`add`.
        host, port: where to listen; port 0 takes a free one.
    """

    def __init__(self, target: tuple[str, int], *faults: ProxyFault, host: str = "127.0.0.1", port: int = 0) -> None:
        self.target = target
        self._rules = [Rule(fault) for fault in faults]
        self._bind = (host, port)
        self._live: list[Connection] = []
        self._accepted = 0
        self._gone = dict.fromkeys(DIRECTIONS, 0)
        """Bytes of connections that are over."""
        self._struck = 0
        self._once: list[Rule] = []
        self._failure: BaseException | None = None
        self._commands: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._listener: socket.socket | None = None
        self._listening = False
        self._address = ("", 0)

    # --- life --------------------------------------------------------------------------------------------------------

    def start(self) -> FaultProxy:
        """Listen and forward; returns once connections are accepted."""
        if self._thread is not None:
            raise RuntimeError("this proxy runs already")
        self._listener = self._reserved(self._bind)
        self._address = self._listener.getsockname()[:2]
        self._listen()
        self._wake, self._woken = socket.socketpair()
        self._woken.settimeout(0)
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=f"faultproxy-{self._address[1]}", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Reset every connection and wait for the thread. May be called again.

        Raises:
            Exception: what a callback raised, if one did.
        """
        thread = self._thread
        if thread is None:
            return
        with self._lock:
            self._stopping = True
        self._wake.send(b"x")
        thread.join()
        self._thread = None
        self._wake.close()
        self._woken.close()
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def __enter__(self) -> FaultProxy:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    # --- what a test asks --------------------------------------------------------------------------------------------

    @property
    def address(self) -> tuple[str, int]:
        """Where to connect instead of the target."""
        return self._address

    @property
    def connections(self) -> int:
        """Connections accepted so far."""
        return self._accepted

    @property
    def live(self) -> int:
        """Connections that are open now."""
        return len(self._live)

    def passed(self, direction: str) -> int:
        """Bytes handed on in one direction, over all connections."""
        with self._lock:
            return self._gone[direction] + sum(connection.passed(direction) for connection in self._live)

    @property
    def struck(self) -> int:
        """How often a fault has struck."""
        with self._lock:
            return self._struck + sum(rule.struck for rule in (*self._rules, *self._once))

    # --- what a test does --------------------------------------------------------------------------------------------

    def add(self, *faults: ProxyFault) -> None:
        """More rules, for connections to come and for those that have not passed that byte yet."""
        self._do(lambda: self._add([Rule(fault) for fault in faults], at_once=False))

    def strike(self, *faults: ProxyFault) -> None:
        """Have faults strike the connections that are open now, at once: ``at`` counts from where each of them is."""
        self._do(lambda: self._add([Rule(fault) for fault in faults], at_once=True))

    def cut(self) -> None:
        """Reset every connection that is open now."""
        self._do(self._cut)

    def resume(self) -> None:
        """Forget all rules; stalled, slowed and delayed connections go on as if nothing had been."""
        self._do(self._clear)

    def refuse(self) -> None:
        """Refuse new connections (as a port does that nobody listens on); those that are open go on."""
        self._do(self._unlisten)

    def accept(self) -> None:
        """Accept connections again."""
        self._do(self._listen)

    # --- the thread --------------------------------------------------------------------------------------------------

    def _do(self, command: Callable[[], Any]) -> None:
        """Have the proxy's thread run ``command`` and wait until it has; a callback runs it at once."""
        if threading.current_thread() is self._thread:
            command()
            return
        if self._thread is None:
            raise RuntimeError("this proxy is not running; use it in a with statement, or call start()")
        done: Future[None] = Future()

        def act() -> None:
            try:
                command()
            except BaseException as error:  # noqa: BLE001 - it is the caller's, and travels there
                done.set_exception(error)
            else:
                done.set_result(None)

        with self._lock:
            self._commands.append(act)
        self._wake.send(b"x")
        done.result(CALL_SECONDS)

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._turn()
        finally:
            for connection in self._live:
                connection.cut()
            self._bury()
            if self._listener is not None:
                self._listener.close()

    def _turn(self) -> None:
        """Wait for something to happen, and make the most of it."""
        now = time.monotonic()
        with selectors.PollSelector() as selector:
            selector.register(self._woken, READ)
            if self._listener is not None and self._listening:
                selector.register(self._listener, READ)
            for connection in self._live:
                for sock, interest in connection.interests(now).items():
                    selector.register(sock, interest)
            wakes = [at for connection in self._live if (at := connection.wakes_at()) is not None and at > now]
            ready = selector.select(max(0.0, min(wakes) - now) if wakes else None)
        events = {key.fileobj: mask for key, mask in ready if isinstance(key.fileobj, socket.socket)}
        if self._woken in events:
            self._obey()
        if self._listener in events:
            self._welcome()
        now = time.monotonic()
        for connection in list(self._live):
            if connection.over:
                continue
            try:
                connection.serve(events, now)
            except Exception as error:  # a test's own callback failed: it hears of that when it stops the proxy
                log.exception("a callback of the fault proxy failed")
                self._failure = self._failure or error
        self._bury()

    def _obey(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._woken.recv(4096)
        with self._lock:
            commands, self._commands = self._commands, []
        for command in commands:
            command()

    def _welcome(self) -> None:
        if self._listener is None or not self._listening:
            return
        try:
            client, _address = self._listener.accept()
        except OSError as error:
            log.debug("the client was gone before it was accepted: %s", error)
            return
        with self._lock:
            self._accepted += 1
            flows = {
                way: Flow(rule for rule in self._rules if rule.fault.applies(self._accepted, way)) for way in DIRECTIONS
            }
            self._live.append(Connection(self._accepted, client, self.target, flows))

    def _bury(self) -> None:
        with self._lock:
            for connection in self._live:
                if connection.over:
                    for way in DIRECTIONS:
                        self._gone[way] += connection.passed(way)
            self._live = [connection for connection in self._live if not connection.over]

    def _add(self, rules: list[Rule], *, at_once: bool) -> None:
        with self._lock:
            if at_once:
                self._once += rules
            else:
                self._rules += rules
        for connection in self._live:
            for rule in rules:
                connection.apply(rule, at_once=at_once)

    def _cut(self) -> None:
        for connection in self._live:
            connection.cut()

    def _clear(self) -> None:
        with self._lock:
            self._struck += sum(rule.struck for rule in (*self._rules, *self._once))
            self._rules, self._once = [], []
        for connection in self._live:
            for flow in connection.flows.values():
                flow.clear()

    # --- the port ----------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        if self._listener is not None and not self._listening:
            self._listener.listen(BACKLOG)
            self._listening = True

    def _unlisten(self) -> None:
        """The port stays ours: a socket that is bound and does not listen refuses, as a port of nobody does."""
        if self._listener is not None and self._listening:
            self._listener.close()
            self._listening = False
            self._listener = self._reserved(self._address)

    @staticmethod
    def _reserved(address: tuple[str, int]) -> socket.socket:
        sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
            sock.settimeout(0)
        except BaseException:
            sock.close()
            raise
        return sock
