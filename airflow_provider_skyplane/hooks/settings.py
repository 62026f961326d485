"""What a ``skyplane`` connection says, as values: field names are those of the form and of the connection's extra."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from airflow_provider_skyplane.compat import AirflowException, mask_secret
from airflow_provider_skyplane.get_provider_info import CONNECTION_TYPE, MAX_GATEWAYS
from airflow_provider_skyplane.hooks.ssh import hosts_of
from skyplane_core.model import Compression
from skyplane_core.provision.hosts import SshHost

MIN_SECRET_CHARACTERS = 32
MIB = 1024 * 1024
_GATEWAYS = tuple(range(1, MAX_GATEWAYS + 1))
_ONE_OF_THEM = f"one of {', '.join(map(str, _GATEWAYS))}"
_FIELDS = frozenset(
    {
        "budget_usd",
        "compression",
        "expiry_minutes",
        "gateways",
        "hosts",
        "pool_mib",
        "provisioner",
        "scoped_credentials",
        "ssh_key_file",
        "ssh_passphrase",
        "ssh_private_key",
    }
)
_OLD_PREFIX = "extra__skyplane__"

E = TypeVar("E", bound=enum.Enum)


class Scoping(enum.Enum):
    """When gateways get narrower credentials than the connection's; see docs/connections.md."""

    AUTO = "auto"
    """Where that cannot take away what worked: a role is assumed with a policy."""
    ALWAYS = "always"
    """Wherever the store can."""
    NEVER = "never"


@dataclasses.dataclass(frozen=True)
class Settings:
    """Defaults of everything that runs over one ``skyplane`` connection.

    ``gateways`` are processes of the worker where there are no ``hosts``. ``pool_bytes`` is each gateway's;
    ``expiry_seconds`` after which an idle one ends itself. ``compression`` None: as the task says, or the engine.
    ``budget_usd``: the most that a transfer may cost by list prices; None is no limit.
    """

    control_secret: bytes | None = dataclasses.field(default=None, repr=False)
    gateways: int = 1
    hosts: tuple[SshHost, ...] = ()
    pool_bytes: int = 512 * MIB
    expiry_seconds: float = 900.0
    compression: Compression | None = None
    budget_usd: float | None = None
    scoping: Scoping = Scoping.AUTO

    @classmethod
    def of(cls, connection: Any, look_up: Callable[[str], Any]) -> Settings:
        """The settings in ``connection``.

        Args:
            look_up: a connection by its id; asked for those of type ``ssh`` that the hosts name.

        Raises:
            AirflowNotFoundException: a host names a connection that does not exist.
            AirflowException: a field is unknown, or holds what it cannot.
        """
        found = _Extra(connection)
        settings = cls(
            control_secret=control_secret(connection),
            gateways=found.gateways(),
            hosts=hosts_of(connection.conn_id, found.values, look_up),
            pool_bytes=int(found.number("pool_mib", 512) * MIB),
            expiry_seconds=found.number("expiry_minutes", 15) * 60,
            compression=found.member("compression", Compression),
            budget_usd=found.number("budget_usd", None),
            scoping=found.member("scoped_credentials", Scoping) or Scoping.AUTO,
        )
        found.check_place(has_hosts=bool(settings.hosts), gateways=settings.gateways)
        return settings


def checked(connection: Any) -> Any:
    """``connection`` itself.

    Raises:
        AirflowException: it is of another type.
    """
    if connection.conn_type != CONNECTION_TYPE:
        raise AirflowException(
            f"Connection {connection.conn_id!r} is of type {connection.conn_type!r}. Expected {CONNECTION_TYPE!r}: "
            "name one of that type with skyplane_conn_id."
        )
    return connection


def gateway_count(said: Any) -> int:
    """How many gateways an argument asks for; a connection's field may say the same.

    Raises:
        ValueError: no number of gateways that there can be on a worker.
    """
    if not _is_gateway_count(said):
        raise ValueError(f"Invalid value for gateways: {said!r}. Expected {_ONE_OF_THEM}")
    return int(said)


def _is_gateway_count(said: Any) -> bool:
    return not isinstance(said, bool) and str(said) in map(str, _GATEWAYS)


def control_secret(connection: Any) -> bytes | None:
    """The control secret that a ``skyplane`` connection holds in its password field, None if it has none.

    Raises:
        AirflowException: the secret is too short to derive an identity from.
    """
    # Surrounding white space does not count, as in the command line's secret file: the same text is the same secret.
    secret = str(connection.password or "").strip()
    if not secret:
        return None
    mask_secret(secret)
    if len(secret) < MIN_SECRET_CHARACTERS:
        raise AirflowException(
            f"The control secret of connection {connection.conn_id!r} has fewer than {MIN_SECRET_CHARACTERS} "
            "characters. Put a long random one into its password field."
        )
    return secret.encode()


def given(connection: Any) -> dict[str, Any]:
    """The fields of a connection's extra that hold anything, without the prefix that old forms gave them."""
    fields = {name.removeprefix(_OLD_PREFIX): value for name, value in connection.extra_dejson.items()}
    return {name: value for name, value in fields.items() if value not in (None, "", [], {})}


class _Extra:
    """The fields of one connection, each read once and refused by name."""

    def __init__(self, connection: Any) -> None:
        self._conn_id = connection.conn_id
        self.values: Mapping[str, Any] = given(connection)
        unknown = sorted(self.values.keys() - _FIELDS)
        if unknown:
            raise AirflowException(
                f"Connection {self._conn_id!r} has the unknown extra field {unknown[0]}. "
                f"Known are {', '.join(sorted(_FIELDS))}. Gateways run on the worker or on SSH hosts; "
                "there are no settings for virtual machines of a cloud, because none are started."
            )

    def gateways(self) -> int:
        said = self.values.get("gateways", 1)
        if not _is_gateway_count(said):
            raise self._wrong("gateways", _ONE_OF_THEM)
        return int(said)

    def member(self, field: str, kind: type[E]) -> E | None:
        said = self.values.get(field)
        try:
            return None if said is None else kind(said)
        except ValueError:
            known = ", ".join(str(member.value) for member in kind)
            raise self._wrong(field, f"one of {known}") from None

    def number(self, field: str, default: float | None) -> Any:
        """A number greater than 0, as a number or as a form's text."""
        said = self.values.get(field)
        if said is None:
            return default
        try:
            number = math.nan if isinstance(said, bool) else float(said)
        except (TypeError, ValueError):
            number = math.nan
        if not 0 < number < math.inf:
            raise self._wrong(field, "a number greater than 0")
        return number

    def check_place(self, *, has_hosts: bool, gateways: int) -> None:
        """Refuse clouds, and what contradicts the hosts."""
        place = self.values.get("provisioner")
        if place is not None and place not in ("local", "ssh"):
            raise self._wrong(
                "provisioner", "local (processes of the worker) or ssh (hosts); clouds' machines are not started yet"
            )
        if place is not None and (place == "ssh") != has_hosts:
            raise self._wrong("provisioner", "ssh with hosts, or local without them; or leave it out")
        if has_hosts and gateways != 1:
            raise self._wrong("gateways", "nothing beside hosts, each of which is one gateway")

    def _wrong(self, field: str, expected: str) -> AirflowException:
        return AirflowException(
            f"The extra field {field} of connection {self._conn_id!r} is {self.values[field]!r}. Expected {expected}."
        )
