"""What a retry needs to find the transfer that an earlier try of its task started, and what it does with it."""

from __future__ import annotations

import enum
import hashlib
import hmac
from contextlib import closing
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from skyplane_core.errors import ObjectNotFound

if TYPE_CHECKING:
    from airflow_provider_skyplane.engine import Engine, FanOut, Request

STATE_STORE_KEY = "skyplane_run"
"""Under this key the reference is in Airflow's task state store."""
_OBJECT = "run"


class Reference(msgspec.Struct, frozen=True):
    """A transfer that a task has started. Holds no secret.

    Args:
        dataplane: the dataplane's reference, as JSON.
        fingerprint: of the request, which is another one if somebody has edited the DAG since.
        epoch: the task's ``max_tries``, which a retry leaves alone and a user who clears the task raises.
        host: where the task ran that started it: gateways of that machine are reached from there alone.
    """

    dataplane: str
    transfer_id: str
    fingerprint: str
    epoch: int
    host: str


class Standing(enum.Enum):
    """What is known about an earlier try's transfer once its gateways, and the receipt, have been asked."""

    RUNNING = "it is running"
    DONE = "everything has arrived"
    FAILED = "it has ended without success"
    ENDED = "its gateways have ended before it did"
    UNKNOWN = "its gateways cannot be asked"


class Next(enum.Enum):
    """What a try does about the transfer of an earlier one."""

    ATTACH = "attach to it"
    CONTINUE = "continue what it left, by its id, on new gateways"
    REPLACE = "end it, and start another"
    TAKE_OVER = "have it let go of by a word at its destination, then continue it by its id on new gateways"


def wanted(reference: Reference, fingerprint: str, epoch: int) -> bool:
    """Whether the earlier transfer is what this try would start: the same request, and nobody has cleared the task."""
    return (reference.fingerprint, reference.epoch) == (fingerprint, epoch)


def decide(standing: Standing) -> Next:
    """What becomes of an earlier transfer that is wanted.

    Two transfers of one id at once would abort each other's uploads: an id is used again only if its gateways are gone,
    or leave the transfer alone as soon as they look at its destination.
    """
    return {
        Standing.RUNNING: Next.ATTACH,
        Standing.DONE: Next.ATTACH,
        Standing.FAILED: Next.REPLACE,
        Standing.ENDED: Next.CONTINUE,
        Standing.UNKNOWN: Next.TAKE_OVER,
    }[standing]


class References(Protocol):
    """Where a task's reference is kept from one try to the next."""

    def load(self) -> Reference | None:
        """What an earlier try has kept; None if none has, or it is not legible."""

    def save(self, reference: Reference) -> None:
        """Keep it; replaces an earlier one."""

    def delete(self) -> None:
        """Forget it. May be repeated."""


class StateStoreReferences:
    """In the task state store, which Airflow has from 3.3 on.

    Args:
        store: ``context["task_state_store"]``.
    """

    def __init__(self, store: Any) -> None:
        self._store = store

    def load(self) -> Reference | None:
        """See :class:`References`."""
        return _decoded(self._store.get(STATE_STORE_KEY) or "")

    def save(self, reference: Reference) -> None:
        """See :class:`References`."""
        self._store.set(STATE_STORE_KEY, msgspec.json.encode(reference).decode())

    def delete(self) -> None:
        """See :class:`References`."""
        self._store.delete(STATE_STORE_KEY)


class DestinationReferences:
    """A small object at the destination, below ``.skyplane/``, whose name is derived from the task instance's.

    For Airflow before 3.3: there a retry's own XComs are deleted before it begins, and a Variable would be everybody's.
    What it says is believed only with the control secret's word for it: it names processes to be ended, and who may
    write to a destination need not be who may end them.

    Args:
        task: dag id, run id, task id and map index.
    """

    def __init__(self, engine: Engine, request: Request | FanOut, task: tuple[object, ...]) -> None:
        self._engine = engine
        self._request = request
        # As long as a transfer id, since it takes the place of one in the names of what is kept at a destination.
        self._name = hashlib.sha256("\0".join(map(str, task)).encode()).hexdigest()[:32]

    def load(self) -> Reference | None:
        """See :class:`References`."""
        from skyplane_core.stores.whole import get_bytes

        store, prefix = self._engine.state(self._request, self._name)
        with closing(store):
            try:
                mac, _, content = get_bytes(store, f"{prefix}{_OBJECT}").partition(b"\n")
            except ObjectNotFound:
                return None
        return _decoded(content) if hmac.compare_digest(mac, self._mac(content)) else None

    def save(self, reference: Reference) -> None:
        """See :class:`References`."""
        from skyplane_core.stores.whole import put_bytes

        content = msgspec.json.encode(reference)
        store, prefix = self._engine.state(self._request, self._name)
        with closing(store):
            put_bytes(store, f"{prefix}{_OBJECT}", self._mac(content) + b"\n" + content)

    def _mac(self, content: bytes) -> bytes:
        return self._engine.mac(b"\0".join((b"reference", self._name.encode(), content))).encode()

    def delete(self) -> None:
        """See :class:`References`."""
        self._engine.discard_receipt(self._request, self._name)


def _decoded(text: bytes | str) -> Reference | None:
    try:
        return msgspec.json.decode(text, type=Reference)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        # Another version of ours may have written it: that costs a second copy, not a task that can never succeed.
        return None
