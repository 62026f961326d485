"""A server in a process of its own, driven over its standard input and output."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, TextIO, cast

from skyplane_core.testing.objectserver.core import Config, Core

START_SECONDS = 30.0
STOP_SECONDS = 10.0


class ChildServer:
    """The same calls as :class:`Core`, carried out by a child process. Thread-safe."""

    def __init__(self, config: Config) -> None:
        self._directory = config.directory
        self._lock = threading.Lock()
        command = [sys.executable, "-m", "skyplane_core.testing.objectserver", "--control"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._input, self._output = cast("TextIO", self._process.stdin), cast("TextIO", self._process.stdout)
        # A child that hangs at its start is killed, which ends the read below.
        watchdog = threading.Timer(START_SECONDS, self._process.kill)
        watchdog.start()
        try:
            born = self._exchange(dataclasses.asdict(config))
        except BaseException:
            self.stop()
            raise
        finally:
            watchdog.cancel()
        self.url: str = born["endpoint_url"]
        self.port: int = born["port"]
        self.pid = self._process.pid

    def call(self, name: str, arguments: dict[str, Any]) -> Any:
        """See :meth:`Core.call`."""
        return self._exchange({"call": name, "arguments": arguments})

    def _exchange(self, message: dict[str, Any]) -> Any:
        with self._lock:
            self._input.write(json.dumps(message) + "\n")
            self._input.flush()
            line = self._output.readline()
        if not line:
            raise RuntimeError(f"the object server's process ended (exit status {self._process.wait()})")
        answer = json.loads(line)
        if "error" in answer:
            raise {"KeyError": KeyError, "ValueError": ValueError}.get(answer["error"], RuntimeError)(answer["message"])
        return answer["result"]

    def stop(self) -> None:
        """Ask it to end, insist after :data:`STOP_SECONDS`, and remove its files. May be called again."""
        with contextlib.suppress(BrokenPipeError):
            self._input.close()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._output.close()
        shutil.rmtree(self._directory, ignore_errors=True)


def serve_calls(source: TextIO, reply: Callable[[dict[str, Any]], None]) -> None:
    """The child's side: the first line is its :class:`Config`, each further one a call; ends with the input."""
    core: Core | None = None
    try:
        for line in source:
            message = json.loads(line)
            try:
                if core is None:
                    core = Core(Config(**message))
                    result: Any = {"endpoint_url": core.url, "port": core.port}
                else:
                    result = core.call(message["call"], message["arguments"])
            except Exception as error:  # noqa: BLE001 - it is the caller's to handle: it travels there
                text = error.args[0] if isinstance(error, KeyError) and error.args else str(error)
                reply({"error": type(error).__name__, "message": f"{text}"})
            else:
                reply({"result": result})
    finally:
        if core is not None:
            core.stop()
