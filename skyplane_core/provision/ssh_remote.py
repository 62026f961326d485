"""Runs on a gateway's host, sent over SSH as text: unpacks a bundle, and starts, reads the log of and ends a gateway.

It is run by whatever ``python3`` is there, without site-packages, so it uses the standard library of Python 3.6 and
nothing of this project. It speaks JSON lines: a request comes on standard input, each answer is a line that begins with
:data:`MARK`, whatever a login shell prints before it.

A gateway has one directory, which holds everything: ``lib`` (the unpacked bundle), ``log``, ``processes`` and ``lock``.
A keeper, this script in a process of its own, holds the lock, waits for the gateway and then removes the directory.
Of a gateway that died the log stays for as long as an idle gateway would have lived, unless it is stopped before.
"""

import errno
import fcntl
import hashlib
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
import traceback
import zipfile
from typing import Any, Dict, List, NoReturn, Optional

Json = Dict[str, Any]
Process = Optional[List[int]]

MARK = "skyplane: "
NAME = re.compile(r"skyplane-dp-[0-9a-v-]+-gateway-[0-9]+")
TAIL = 4000
POLL_SECONDS = 0.02
# Younger directories without a lock are still being made by somebody else.
STALE_SECONDS = 600


class Refused(Exception):
    """Told to the client as ``{"error": kind, "why": ...}``."""

    def __init__(self, kind: str, why: str = "", log: str = "") -> None:
        super().__init__(why)
        self.answer = {"error": kind, "why": why, "log": log}


def say(answer: Json) -> None:
    sys.stdout.write(MARK + json.dumps(answer) + "\n")
    sys.stdout.flush()


def hear() -> Json:
    line = sys.stdin.buffer.readline()
    if not line:
        raise Refused("gone", "the client went away")
    return dict(json.loads(line.decode()))


# --- looking around ---------------------------------------------------------------------------------------------------


def probe(request: Json) -> Json:
    base = request["directory"] or os.path.expanduser("~")
    try:
        libc = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (AttributeError, OSError, ValueError):
        libc = ""
    disk = os.statvfs(base)
    return {
        "platform": sys.platform,
        "implementation": sys.implementation.name,
        "python": list(sys.version_info[:3]),
        "arch": os.uname().machine,
        "libc": libc,
        "free_bytes": disk.f_bavail * disk.f_frsize,
        "base": base,
        "ports": free_ports(request["bind"], request["ports"]) if request["ports"] else [0, 0],
    }


def free_ports(bind: str, wanted: List[int]) -> List[int]:
    found = []  # type: List[int]
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    for port in range(wanted[0], wanted[1] + 1):
        with socket.socket(family) as probe_socket:
            probe_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe_socket.bind((bind, port))
            except OSError:
                continue
        found.append(port)
        if len(found) == 2:
            return found
    raise Refused("ports", "of the ports %d-%d on %s, %d are free" % (wanted[0], wanted[1], bind, len(found)))


def sweep(base: str) -> None:
    """Remove what keepers that were killed, or a reboot, have left behind."""
    for name in os.listdir(base):
        path = os.path.join(base, name)
        if not NAME.fullmatch(name) or os.path.islink(path):
            continue
        try:
            if time.time() - os.stat(path).st_mtime < STALE_SECONDS or running(processes(path).get("gateway")):
                continue
            with open(os.path.join(path, "lock"), "ab") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path)
        except OSError:
            continue


# --- starting ---------------------------------------------------------------------------------------------------------


def start(request: Json) -> None:
    around = probe(request)
    say(around)
    order = hear()
    directory = os.path.join(around["base"], request["name"])
    sweep(around["base"])
    os.mkdir(directory, 0o700)
    try:
        # Held by this process and the keeper, which inherits it, until the last of them ends.
        lock = os.open(os.path.join(directory, "lock"), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        receive(directory, order["size"], order["sha256"])
        say({"directory": directory})
        bootstrap = sys.stdin.buffer.read(hear()["bootstrap"])
        say(launch(directory, bootstrap, request))
    except BaseException:
        end(directory, 0)
        raise


def receive(directory: str, size: int, sha256: str) -> None:
    """The bundle from standard input, checked and unpacked."""
    path = os.path.join(directory, "bundle.zip")
    digest = hashlib.sha256()
    left = size
    with open(path, "wb") as file:
        while left:
            chunk = sys.stdin.buffer.read(min(left, 262144))
            if not chunk:
                raise Refused("gone", "the client went away")
            digest.update(chunk)
            file.write(chunk)
            left -= len(chunk)
    if digest.hexdigest() != sha256:
        raise Refused("hash", "its SHA-256 is %s, not %s" % (digest.hexdigest(), sha256))
    with zipfile.ZipFile(path) as archive:
        archive.extractall(os.path.join(directory, "lib"))
    os.unlink(path)


def launch(directory: str, bootstrap: bytes, request: Json) -> Json:
    """Start the keeper, and through it the gateway; returns the gateway's own answer."""
    their_input, our_output = os.pipe()
    our_input, their_output = os.pipe()
    keeper = os.fork()
    if keeper == 0:
        os.close(our_output)
        os.close(our_input)
        keep(directory, their_input, their_output, request)
    os.close(their_input)
    os.close(their_output)
    try:
        with os.fdopen(our_output, "wb") as pipe:
            pipe.write(bootstrap)
    except BrokenPipeError:
        pass  # it ended already: what follows tells
    answer = b""
    deadline = time.monotonic() + request["start_seconds"]
    while not answer.endswith(b"\n"):
        ready = select.select([our_input], [], [], max(0.0, deadline - time.monotonic()))[0]
        if not ready:
            raise Refused("start", "it did not answer within %d s" % request["start_seconds"], tail(directory))
        chunk = os.read(our_input, 4096)
        if not chunk:
            code = os.waitpid(keeper, 0)[1] >> 8
            raise Refused("start", "it ended with exit status %d" % code, tail(directory))
        answer += chunk
    write(os.path.join(directory, "started"), "")
    return {"listening": json.loads(answer.decode())}


def keep(directory: str, stdin: int, stdout: int, request: Json) -> NoReturn:
    """The keeper: never returns."""
    status = 1
    try:
        os.setsid()
        os.chdir("/")
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        environment = {name: os.environ[name] for name in request["inherited"] if name in os.environ}
        environment.update(request["environment"])
        with open(os.path.join(directory, "log"), "ab") as log:
            os.fchmod(log.fileno(), 0o600)
            os.dup2(log.fileno(), 2)
        gateway = subprocess.Popen(
            [sys.executable, "-I", "-S", os.path.join(directory, "lib")],
            stdin=stdin,
            stdout=stdout,
            env=environment,
            cwd="/",
            close_fds=True,
            start_new_session=True,
        )
        for fd in (stdin, stdout):
            os.close(fd)
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1):
            os.dup2(null, fd)
        ours = {"gateway": [gateway.pid, start_time(gateway.pid)], "keeper": [os.getpid(), start_time(os.getpid())]}
        write(os.path.join(directory, "processes"), json.dumps(ours))
        code = gateway.wait()
        status = code if code >= 0 else 128 - code
        if os.path.exists(os.path.join(directory, "started")):
            if status != 0:
                shutil.rmtree(os.path.join(directory, "lib"), ignore_errors=True)
                time.sleep(request["log_seconds"])
            shutil.rmtree(directory, ignore_errors=True)
    except BaseException:  # noqa: BLE001 - the boundary of a process: whatever it is, it is logged
        traceback.print_exc()
    finally:
        os._exit(status & 0xFF)


# --- later ------------------------------------------------------------------------------------------------------------


def stop(request: Json) -> None:
    directory = checked(request["directory"])
    was = os.path.isdir(directory)
    say({"stopped": was, "log": tail(directory, request["log_bytes"]), "killed": end(directory, request["seconds"])})


def log(request: Json) -> None:
    directory = checked(request["directory"])
    if not os.path.isdir(directory):
        raise Refused("absent", directory)
    text = tail(directory, request["log_bytes"])
    say({"log": text, "running": running(processes(directory).get("gateway"))})


def end(directory: str, seconds: float) -> bool:
    """End the gateway and its keeper, politely for so long, and remove the directory. Returns whether it was killed."""
    ours = processes(directory)
    killed = not signal_and_wait(ours.get("gateway"), signal.SIGTERM, seconds) if seconds else False
    for name in ("keeper", "gateway"):
        signal_and_wait(ours.get(name), signal.SIGKILL, 5)
    shutil.rmtree(directory, ignore_errors=True)
    if os.path.isdir(directory):
        # A keeper that removes it at the same time makes the first attempt miss.
        shutil.rmtree(directory)
    return killed


def signal_and_wait(process: Process, number: int, seconds: float) -> bool:
    if process is None or not running(process):
        return True
    try:
        os.kill(process[0], number)
    except ProcessLookupError:
        return True
    deadline = time.monotonic() + seconds
    while running(process) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return not running(process)


def processes(directory: str) -> Dict[str, List[int]]:
    try:
        with open(os.path.join(directory, "processes")) as file:
            return dict(json.load(file))
    except (OSError, ValueError):
        return {}


def running(process: Process) -> bool:
    """Whether this very process runs: a pid alone may be somebody else's by now."""
    return process is not None and process[1] > 0 and start_time(process[0]) == process[1]


def start_time(pid: int) -> int:
    """Clock ticks since boot, 0 if it has ended."""
    try:
        with open("/proc/%d/stat" % pid, "rb") as file:
            stat = file.read()
    except OSError:
        return 0
    fields = stat[stat.rindex(b")") + 2 :].split()
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])


def checked(directory: str) -> str:
    """A directory that may be removed: absolute, named as ours are, and no link."""
    if not NAME.fullmatch(os.path.basename(directory)) or not os.path.isabs(directory) or os.path.islink(directory):
        raise Refused("usage", "%r is not a gateway's directory" % directory)
    return directory


def tail(directory: str, size: int = TAIL) -> str:
    try:
        with open(os.path.join(directory, "log"), "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - size))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def main() -> None:
    try:
        request = hear()
        {"start": start, "stop": stop, "log": log}[request["do"]](request)
    except Refused as refused:
        say(refused.answer)
    except OSError as error:
        kind = "space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "system"
        say({"error": kind, "why": str(error), "log": ""})


main()
