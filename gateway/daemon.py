"""Starting a gateway: read what it is told, listen, fork its processes, and become the control process.

Everything up to the forks is single-threaded and imports little, so that the forks are safe and the processes do not
carry each other's libraries; each imports its own after the fork, at the same time as the others.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import ssl
import sys
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from gateway import logs, process
from gateway.birth import CANNOT_START, CannotStartError, check_libraries, read_bootstrap, tls_of
from gateway.counters import Counters
from skyplane_core.provision.bootstrap import Bootstrap, Listening

# GLIBC_TUNABLES are set by whoever starts the daemon (skyplane_core.provision.local): that costs nothing, while setting
# them here would take a re-exec of about 25 ms, after which the bootstrap would have to be carried over. They help
# third-party allocations only, since the data path allocates its buffers once; without them it is correct all the same.

_BACKLOG = 128

Role = Callable[[Bootstrap, socket.socket, socket.socket, Counters], None]


class Roles(NamedTuple):
    """What runs in the forked processes: each gets the bootstrap, two sockets and the counters.

    ``data``: the channel to the agent, and the listening wire socket. ``agent``: the channels to control and to data.
    """

    data: Role
    agent: Role


def run_data(bootstrap: Bootstrap, agent: socket.socket, wire: socket.socket, counters: Counters) -> None:
    """The data process."""
    from gateway import data

    _preload()
    data.run(bootstrap, agent, wire, counters)


def run_agent(bootstrap: Bootstrap, control: socket.socket, data: socket.socket, counters: Counters) -> None:
    """The agent process."""
    from gateway import agent

    _preload()
    agent.run(bootstrap, control, data, counters)


REAL = Roles(run_data, run_agent)


def main(roles: Roles = REAL) -> int:
    """Run a gateway until it ends; returns its exit code. See :class:`Bootstrap` and :class:`Listening`."""
    try:
        process.harden()
        bootstrap = read_bootstrap()
        check_libraries()
        tls = tls_of(bootstrap)
        control = _listen(bootstrap.control_host or bootstrap.bind_host, bootstrap.control_port)
        wire = _listen(bootstrap.bind_host, bootstrap.wire_port)
        answer_fd = _detach(bootstrap)
    except CannotStartError as error:
        sys.stderr.write(f"gateway: {error}\n")
        return error.exit_code
    return _run(bootstrap, tls, control, wire, answer_fd, roles)


def _run(
    bootstrap: Bootstrap,
    tls: ssl.SSLContext,
    control: socket.socket,
    wire: socket.socket,
    answer_fd: int,
    roles: Roles,
) -> int:
    listening = Listening(bootstrap.gateway_id, os.getpid(), control.getsockname()[1], wire.getsockname()[1])
    counters = Counters()
    control_agent, agent_control = socket.socketpair()
    agent_data, data_agent = socket.socketpair()
    # The others serve no API and need no key for it.
    told = msgspec.structs.replace(bootstrap, private_key_pem="")

    def be(name: str, role: Role, first: socket.socket, second: socket.socket) -> None:
        logs.configure(bootstrap.gateway_id, name)
        # Somebody else's end of a channel, kept open here, would hide that its owner is gone.
        for sock in {control, wire, control_agent, agent_control, agent_data, data_agent} - {first, second}:
            sock.close()
        os.close(answer_fd)
        role(told, first, second, counters)

    logs.configure(bootstrap.gateway_id, "control")
    children = {
        "data": process.fork("data", lambda: be("data", roles.data, data_agent, wire)),
        "agent": process.fork("agent", lambda: be("agent", roles.agent, agent_control, agent_data)),
    }
    for sock in (wire, agent_control, agent_data, data_agent):
        sock.close()
    process.set_name("skyplane-gw")

    def announce() -> None:
        with os.fdopen(answer_fd, "wb") as answer:
            answer.write(msgspec.json.encode(listening) + b"\n")

    # aiohttp's client, which we never use, reads the system's CA certificates on import: a quarter of the start-up.
    os.environ.update(SSL_CERT_FILE=os.devnull, SSL_CERT_DIR=os.devnull)
    # Imported only now, so that the children do not carry it.
    from gateway.control_process import ControlProcess

    _settle()

    def totals() -> dict[str, int]:
        return {counter.name.lower(): value for counter, value in counters.snapshot().items()}

    return ControlProcess(bootstrap, control, tls, control_agent, children, totals, announce).run()


def _preload() -> None:
    """Import while the control process still imports its own what else the first part would wait for."""
    from skyplane_core import checksum
    from skyplane_core.stores import registry

    registry.preload()
    checksum.preload()
    _settle()


def _settle() -> None:
    """All is imported: have the collector look at what comes from now on, and never again at what is here to stay."""
    gc.freeze()
    gc.enable()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise CannotStartError(f"cannot listen on {host} port {port}: {error.strerror}", CANNOT_START) from error


def _detach(bootstrap: Bootstrap) -> int:
    """Leave the caller's terminal, session and streams; returns where the one line of answer goes."""
    process.raise_file_limit()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if os.getpgrp() != os.getpid():
        # The leader of a process group is either a session's leader already, or a job of a shell that wants it so.
        os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    answer_fd = os.dup(1)
    os.dup2(null, 0)
    # Whatever prints must not get into the answer.
    os.dup2(null, 1)
    os.close(null)
    if bootstrap.log_path:
        try:
            log = os.open(bootstrap.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
            os.fchmod(log, 0o600)
        except OSError as error:
            raise CannotStartError(f"cannot write the log: {error}", CANNOT_START) from error
        os.dup2(log, 2)
        os.close(log)
    return answer_fd
