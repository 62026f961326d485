"""A machine of the lab as a cloud hands it over: a name, an address, sshd, a bare Python, and nothing of ours on it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple, cast

from skyplane_core.testing.lab import masks, netns
from skyplane_core.testing.lab.errors import LabError
from skyplane_core.testing.lab.wan import Wan

BOOT_SECONDS = 60.0
END_SECONDS = 30.0
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
USER = "root"
LISTENING = ":0016 00000000:0000 0A"
"""Port 22 in the state LISTEN, in /proc/net/tcp."""
SYSTEM = "system"
PROGRAMS = ("ip", "nsenter", "setpriv", "unshare", "pivot_root", "find", "ssh", "ssh-keygen", "sshd")


class VmProcess(NamedTuple):
    """One that runs on a machine of the lab."""

    pid: int
    """As the machine itself sees it; 1 is sshd."""
    host_pid: int
    """As the test sees it, to signal it."""
    command: str


class FakeVm:
    """A host of a WAN with a disk, processes and a login of its own. A context manager, and startable again.

    It has the network of the host, its own processes, names, shared memory and devices, and a file system that shows
    this machine's system but no checkout, virtual environment, installed Python package, home, or file in /tmp. What
    it writes is gone when it is off. There is no way out of the lab. It runs the same kernel and shares the clock.

    Args:
        wan: a started lab.
        host: a host of its topology, without another machine.
        python: "system" for the distribution's /usr/bin/python3, None for a machine without Python, or a version such
        as "3.9.2"
            that python3 pretends to be (unless it is started with -S).
        disk_mb: what its disk, and each of its /tmp, /run and /dev/shm may hold, in MiB of memory.
        hide: further paths of this machine that it must not show.
    """

    def __init__(
        self, wan: Wan, host: str, *, python: str | None = SYSTEM, disk_mb: int = 2048, hide: Sequence[str] = ()
    ) -> None:
        self.name = host
        self.address = wan.topology.host(host).ip
        self._wan = wan
        self._python = python
        self._disk_mb = disk_mb
        self._hide = tuple(hide)
        self._process: subprocess.Popen[bytes] | None = None
        self._namespace = 0
        wan.at_close(self._end)

    def __enter__(self) -> FakeVm:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    # --- power --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Boot, with an empty disk and the same host key. Returns when sshd listens.

        Raises:
            LabError: with the machine's own words if it does not come up.
        """
        if self._process is not None:
            raise LabError(f"machine {self.name} is running already")
        netns.check_machine(*PROGRAMS)
        directory = self._wan.directory / self.name
        directory.mkdir(exist_ok=True)
        order = self._order(directory)
        unshare = [
            "unshare",
            "--mount",
            "--uts",
            "--ipc",
            "--pid",
            "--fork",
            "--kill-child",
            "--propagation",
            "private",
        ]
        enter = ["nsenter", f"--net={netns.DIRECTORY / self._wan.namespace(self.name)}"]
        boot = [sys.executable, "-m", "skyplane_core.testing.lab.vm_boot"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*enter, *unshare, *self._wan.unprivileged, *boot],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            stdin = cast("IO[bytes]", self._process.stdin)
            with contextlib.suppress(BrokenPipeError), stdin:
                stdin.write(json.dumps(order).encode())
            self._wait_for_sshd(self._process)
        except BaseException:
            self._end()
            raise
        self._wan.plug(self.name)

    def _order(self, directory: Path) -> Mapping[str, object]:
        return {
            "name": self.name,
            "directory": str(directory),
            "disk_mb": self._disk_mb,
            "hidden": [*masks.hidden(), *self._hide, *(masks.system_interpreters() if self._python is None else ())],
            "fresh": masks.FRESH,
            "peers": {host.name: host.ip for host in self._wan.topology.hosts},
            "authorized_key": _key(self.key_file)[1],
            "host_key": _key(self._wan.directory / f"{self.name}.host_key")[0],
            "python_version": "" if self._python in {None, SYSTEM} else self._python,
            "path": PATH,
        }

    def _wait_for_sshd(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + BOOT_SECONDS
        while True:
            if process.poll() is not None or time.monotonic() > deadline:
                raise LabError(f"machine {self.name} did not come up. Its last words: {self.log[-2000:]}")
            with contextlib.suppress(OSError):
                self._namespace = Path(f"/proc/{process.pid}/ns/pid_for_children").stat().st_ino
                if LISTENING in Path(f"/proc/{process.pid}/net/tcp").read_text():
                    return
            time.sleep(0.01)

    def kill(self) -> None:
        """Power off, at once: no process hears of it, and no peer, for not one more packet leaves it."""
        self._wan.unplug(self.name)
        self._end()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        # unshare takes no other signal, and its child, the machine's first process, dies with it.
        process.kill()
        process.wait()
        deadline = time.monotonic() + END_SECONDS
        while self.processes():
            if time.monotonic() > deadline:
                raise LabError(f"machine {self.name} does not end; these still run: {self.processes()}")
            time.sleep(0.01)

    # --- looking inside -----------------------------------------------------------------------------------------------

    @property
    def _log(self) -> Path:
        return self._wan.directory / f"{self.name}.log"

    @property
    def log(self) -> str:
        """What the boot and sshd have said."""
        return self._log.read_text(errors="replace")

    def processes(self) -> list[VmProcess]:
        """What runs on the machine, by pid; empty when it is off."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with contextlib.suppress(OSError):
                if (entry / "ns/pid").stat().st_ino != self._namespace:
                    continue
                status = (entry / "status").read_text()
                inside = next(line for line in status.splitlines() if line.startswith("NSpid:"))
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                found.append(VmProcess(int(inside.split()[-1]), int(entry.name), command))
        return sorted(found)

    def run(self, command: str, *, timeout: float = 120.0) -> subprocess.CompletedProcess[str]:
        """Run a shell command on the machine, as root in /root, without any login. Its failure is in the answer.

        It returns when the command and whatever still holds its output have ended: redirect that of a daemon.
        """
        first = next((process.host_pid for process in self.processes() if process.pid == 1), None)
        if self._process is None or first is None:
            raise LabError(f"machine {self.name} is off")
        enter = ["nsenter", f"--target={first}", "--mount", "--uts", "--ipc", "--net", "--pid"]
        environment = {"HOME": "/root", "USER": USER, "PATH": PATH, "LANG": "C.UTF-8"}
        return subprocess.run(
            [*enter, *self._wan.unprivileged, "/bin/sh", "-c", f"cd /root && {command}"],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    # --- logging in ---------------------------------------------------------------------------------------------------

    @property
    def key_file(self) -> Path:
        """The private key that opens all machines of the lab, for ``ssh -i``."""
        return self._wan.directory / "login_key"

    @property
    def host_key(self) -> str:
        """The machine's public host key: ``ssh-ed25519 AAAA...``."""
        return _key(self._wan.directory / f"{self.name}.host_key")[1].strip()

    def ssh(self, client: str, *words: str, options: Sequence[str] = ()) -> list[str]:
        """The command that logs in from another host with the ssh of this machine, and runs ``words`` there."""
        known_hosts = self._wan.directory / f"{self.name}.known_hosts"
        known_hosts.write_text(f"{self.address} {self.host_key}\n")
        settings = {
            "IdentityFile": str(self.key_file),
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": str(known_hosts),
            "StrictHostKeyChecking": "yes",
            "BatchMode": "yes",
        }
        given = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
        return self._wan.command(client, ["ssh", "-F", os.devnull, *given, *options, f"{USER}@{self.address}", *words])


def _key(file: Path) -> tuple[str, str]:
    """A key pair, private and public; made if it is not there."""
    if not file.exists():
        netns.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", str(file)])
    return file.read_text(), file.with_name(f"{file.name}.pub").read_text()
