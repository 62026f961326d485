"""SSH to one host: key login, a host key that is always checked, commands, and connections through it.

The only module that imports paramiko.
"""

from __future__ import annotations

import getpass
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from skyplane_core.errors import GatewayRefused, GatewayUnreachable, UsageError
from skyplane_core.provision.hosts import SshHost

if TYPE_CHECKING:
    import paramiko
    from typing_extensions import Self

CONNECT_SECONDS = 15.0
KEEPALIVE_SECONDS = 20
_NEXT_PIN = "Check the fingerprint on the host's console, then pin it as host_key, or add the key to {file}."


def check_settings(host: SshHost) -> None:
    """Whether what ``host`` says about keys can be used; connects to nothing.

    Raises:
        UsageError: paramiko is not installed, or a file is missing or not of its kind.
    """
    try:
        import paramiko  # noqa: F401 - to know that it is there
    except ModuleNotFoundError as error:
        raise UsageError(
            f"the library {error.name!r} is not installed",
            where=host.label,
            next_step="Run: pip install 'airflow-provider-skyplane[ssh]'",
        ) from error
    _private_key(host)
    _known_hosts(host)


class SshConnection:
    """One authenticated connection to ``host``. Safe to use from several threads.

    Raises:
        GatewayUnreachable: nothing answers there, or not as SSH.
        GatewayRefused: its host key is unknown or not the expected one, or it refuses the login.
        UsageError: see :func:`check_settings`.
    """

    def __init__(self, host: SshHost) -> None:
        import paramiko

        self._host = host
        self._client = paramiko.SSHClient()
        key = _private_key(host)
        if not host.host_key:
            self._client.get_host_keys().update(_known_hosts(host))
        # Asked only about hosts that the file above does not know; with a pinned key that is every host.
        self._client.set_missing_host_key_policy(_policy(host))
        try:
            self._client.connect(
                host.address,
                port=host.port,
                username=host.user or getpass.getuser(),
                pkey=key,
                allow_agent=key is None,
                look_for_keys=key is None,
                timeout=CONNECT_SECONDS,
                banner_timeout=CONNECT_SECONDS,
                auth_timeout=CONNECT_SECONDS,
            )
            self._transport = self._client.get_transport()
            if self._transport is None:
                raise paramiko.SSHException("the connection was closed")
            self._transport.set_keepalive(KEEPALIVE_SECONDS)
        except BaseException as error:  # noqa: BLE001 - mapped, or raised again
            self._client.close()
            self._raise(error)

    def run(self, command: str) -> RemoteCommand:
        """Start a command; its streams and exit status are the caller's to read.

        Raises:
            GatewayUnreachable: the connection is lost, or the host opens no session.
        """
        try:
            channel = self._channel("session")
            channel.exec_command(command)
        except Exception as error:  # noqa: BLE001 - mapped, or raised again
            self._raise(error)
        return RemoteCommand(channel, self._host)

    def dial(self, host: str, port: int) -> Any:
        """A connection from the remote host to ``host``, with the methods of a socket.

        Raises:
            GatewayUnreachable: it cannot be made, or the host forbids forwarding.
        """
        try:
            return self._channel("direct-tcpip", (host, port), ("127.0.0.1", 0))
        except Exception as error:  # noqa: BLE001 - mapped, or raised again
            self._raise(error)

    @property
    def alive(self) -> bool:
        """Whether the connection still stands, as far as is known."""
        return self._transport is not None and self._transport.is_active()

    def close(self) -> None:
        """End the connection; what was started detached goes on."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _channel(self, kind: str, *addresses: tuple[str, int]) -> Any:
        if self._transport is None:
            raise OSError("the connection was closed")
        return self._transport.open_channel(kind, *addresses, timeout=CONNECT_SECONDS)

    def _raise(self, error: BaseException) -> NoReturn:
        import paramiko

        where = self._host.label
        if isinstance(error, paramiko.BadHostKeyException):
            _refuse_key(self._host, error.key, f"{_known_hosts_path(self._host)} has {error.expected_key.fingerprint}")
        if isinstance(error, paramiko.AuthenticationException):
            raise GatewayRefused(
                "the host refuses the login",
                where=where,
                why=str(error),
                next_step="Check user and key; the public key belongs into ~/.ssh/authorized_keys on the host.",
            ) from error
        if isinstance(error, paramiko.SSHException | OSError | EOFError):
            raise GatewayUnreachable(
                "the host cannot be reached by SSH",
                where=where,
                why=str(error) or type(error).__name__,
                next_step="Check address, port and firewall, and that sshd runs there.",
            ) from error
        raise error


class RemoteCommand:
    """A command on a remote host. For one thread."""

    def __init__(self, channel: paramiko.Channel, host: SshHost) -> None:
        self._channel = channel
        self._host = host
        self._read = bytearray()

    def write(self, data: bytes | memoryview, seconds: float) -> None:
        """Send to its standard input; each step of that may take so long.

        Raises:
            GatewayUnreachable: it takes nothing any more.
        """
        self._channel.settimeout(seconds)
        try:
            self._channel.sendall(bytes(data))
        except (TimeoutError, OSError) as error:
            raise self._lost(error, seconds) from error

    def end_input(self) -> None:
        """Close its standard input."""
        self._channel.shutdown_write()

    def read_line(self, seconds: float, limit: int) -> bytes:
        """The next line of its standard output with the end of line; empty at the end.

        Raises:
            GatewayUnreachable: nothing came for so long, the connection broke, or the line is longer than ``limit``.
        """
        self._channel.settimeout(seconds)
        while b"\n" not in self._read:
            try:
                data = self._channel.recv(65536)
            except (TimeoutError, OSError) as error:
                raise self._lost(error, seconds) from error
            self._read += data
            if len(self._read) > limit:
                raise GatewayUnreachable("the host's answer is too long", where=self._host.label)
            if not data:
                break
        line, newline, rest = self._read.partition(b"\n")
        self._read = rest
        return bytes(line + newline)

    def outcome(self, seconds: float) -> tuple[int, str]:
        """Its exit status (-1: unknown) and what it wrote to standard error, once its output has ended."""
        self._channel.settimeout(seconds)
        try:
            error = self._channel.recv_stderr(4000).decode(errors="replace").strip()
        except TimeoutError:
            error = ""
        if not self._channel.status_event.wait(seconds):
            return -1, error
        return self._channel.recv_exit_status(), error

    def close(self) -> None:
        """Leave the command to itself."""
        self._channel.close()

    def _lost(self, error: Exception, seconds: float) -> GatewayUnreachable:
        why = f"nothing moved for {seconds:.0f} s" if isinstance(error, TimeoutError) else str(error)
        return GatewayUnreachable("the SSH connection broke", where=self._host.label, why=why)


def _policy(host: SshHost) -> Any:
    import paramiko

    class Pinned(paramiko.MissingHostKeyPolicy):  # type: ignore[misc]  # paramiko ships no types
        def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:  # noqa: ARG002 - paramiko's signature
            expected = host.host_key.strip()
            if not expected:
                _refuse_key(host, key, f"{_known_hosts_path(host)} has no key for it")
            shown = key.fingerprint if expected.startswith("SHA256:") else f"{key.get_name()} {key.get_base64()}"
            if shown.rstrip("=") != " ".join(expected.split()[:2]).rstrip("="):
                _refuse_key(host, key, f"its host_key is set to {expected}")

    return Pinned()


def _refuse_key(host: SshHost, key: Any, why: str) -> NoReturn:
    raise GatewayRefused(
        "the host is not known to be the right one",
        where=host.label,
        why=f"it shows the {key.get_name()} key {key.fingerprint}, and {why}",
        next_step=_NEXT_PIN.format(file=_known_hosts_path(host)),
    )


def _known_hosts_path(host: SshHost) -> Path:
    return Path(host.known_hosts) if host.known_hosts else Path.home() / ".ssh" / "known_hosts"


def _known_hosts(host: SshHost) -> Any:
    import paramiko

    keys = paramiko.HostKeys()
    if host.host_key:
        return keys
    path = _known_hosts_path(host)
    try:
        # paramiko passes over lines with a marker, and a revoked key that another line knows would be accepted.
        if "@revoked" in path.read_text(encoding="utf-8", errors="replace"):
            raise UsageError(
                "a known_hosts file with @revoked lines is not used",
                where=f"{host.label}: {path}",
                next_step="Set host_key, or name a known_hosts file without such lines.",
            )
        keys.load(str(path))
    except FileNotFoundError as error:
        if host.known_hosts:
            raise UsageError("the known_hosts file is not there", where=f"{host.label}: {host.known_hosts}") from error
    except OSError as error:
        raise UsageError(
            "the known_hosts file cannot be read", where=f"{host.label}: {path}", why=str(error)
        ) from error
    return keys


def _private_key(host: SshHost) -> paramiko.PKey | None:
    import paramiko

    if not host.key and not host.private_key:
        return None
    where = f"{host.label}: {host.key or 'private_key'}"
    try:
        text = host.private_key or Path(host.key).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError("the private key cannot be read", where=where, why=str(error)) from error
    reasons = []
    for kind in (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey):
        try:
            return kind.from_private_key(io.StringIO(text), password=host.passphrase or None)
        except paramiko.PasswordRequiredException as error:
            raise UsageError(
                "the private key needs its passphrase",
                where=where,
                next_step="Load it into the SSH agent with ssh-add, and name no key.",
            ) from error
        except (paramiko.SSHException, ValueError) as error:
            reasons.append(str(error))
    raise UsageError("not a private key that can be used", where=where, why="; ".join(dict.fromkeys(reasons)))
