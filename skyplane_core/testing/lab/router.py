"""The router as a process: ``python -m skyplane_core.testing.lab.router``, which a lab starts and ends.

One line of JSON on its standard input says what to emulate, each further one is a call; each is answered by a line.
At the end of its input it removes the lab and ends, so nothing is left even when the test that made it was killed.
"""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import select
import shutil
import sys
import time

import msgspec

from skyplane_core.testing.lab import netns, tun
from skyplane_core.testing.lab.calls import Answer, Call, Start
from skyplane_core.testing.lab.emulation import Emulation

CONTROL = 0
READS_AT_ONCE = 32
"""Of one device, before the others get their turn."""
TICK_SECONDS = 0.001
"""Parcels leave at most this late; what is due within one tick leaves together. A finer tick costs CPU."""
PRIORITY = 1
"""The lowest of the real-time ones. A router that waits for a processor is a queue that nobody asked for."""


class Router:
    """Moves packets between the devices and the emulation, until the input ends."""

    def __init__(self, start: Start) -> None:
        self._devices = [tun.create(namespace) for namespace in start.namespaces]
        self._emulation = Emulation(start.topology, self._deliver)
        self._indexes = {descriptor: index for index, descriptor in enumerate(self._devices)}
        self._poll = select.epoll()
        for descriptor in (CONTROL, *self._devices):
            self._poll.register(descriptor, select.EPOLLIN)

    def _deliver(self, target: int, packets: list[bytes]) -> None:
        for packet in packets:
            # EIO: the device is not up yet, or not any more. EAGAIN: the host's own queue is full.
            with contextlib.suppress(OSError):
                os.write(self._devices[target], packet)

    def serve(self) -> None:
        """Until the end of the input."""
        emulation, clock, poll = self._emulation, time.monotonic_ns, self._poll.poll
        calls = b""
        while True:
            emulation.run(clock())
            due = emulation.next_due
            timeout = None if due is None else max((due - clock()) / 1e9, TICK_SECONDS)
            for descriptor, _events in poll(timeout):
                if descriptor != CONTROL:
                    self._receive(descriptor)
                    continue
                chunk = os.read(CONTROL, 65536)
                if not chunk:
                    return
                *lines, calls = (calls + chunk).split(b"\n")
                for line in lines:
                    _answer(self._call(msgspec.json.decode(line, type=Call)))

    def _receive(self, descriptor: int) -> None:
        index, now = self._indexes[descriptor], time.monotonic_ns()
        for _ in range(READS_AT_ONCE):
            try:
                packet = os.read(descriptor, tun.MAX_PACKET)
            except BlockingIOError:
                return
            self._emulation.arrive(now, index, packet)

    def _call(self, call: Call) -> Answer:
        if call.cut:
            self._emulation.set_cut(*call.cut, cut=True)
        if call.heal:
            self._emulation.set_cut(*call.heal, cut=False)
        if call.unplug:
            self._emulation.set_plugged(call.unplug, plugged=False)
        if call.plug:
            self._emulation.set_plugged(call.plug, plugged=True)
        if call.link:
            self._emulation.set_link(call.link)
        used = resource.getrusage(resource.RUSAGE_SELF)
        return Answer(counters=self._emulation.counters(), cpu_seconds=used.ru_utime + used.ru_stime)


def _answer(answer: Answer) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
    sys.stdout.buffer.flush()


def main() -> None:
    """Serve; see the module."""
    line = b""
    while not line.endswith(b"\n"):
        chunk = os.read(CONTROL, 65536)
        if not chunk:
            return
        line += chunk
    start = msgspec.json.decode(line, type=Start)
    try:
        try:
            router = Router(start)
        except OSError as error:
            _answer(Answer(error=f"cannot make the TUN devices: {error}"))
            return
        # A container may not allow it; the lab works without, less evenly when others are busy.
        with contextlib.suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(PRIORITY))
        # Nothing here makes cycles, and a collection would be a hiccup of the whole WAN.
        gc.disable()
        _answer(Answer())
        router.serve()
    finally:
        for namespace in start.namespaces:
            netns.remove(namespace)
        shutil.rmtree(start.directory, ignore_errors=True)


if __name__ == "__main__":
    main()
