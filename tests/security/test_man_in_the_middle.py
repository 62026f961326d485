"""Whoever sits on the wire between two real gateways sees no content, changes none, and cannot forge an ack."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from collections.abc import Callable, Iterator

import msgspec
import pytest

from gateway.wire import HEADER_SIZE, FrameType, pack_header, parse_header
from skyplane_core.client import Dataplane, Location, SkyplaneClient
from skyplane_core.control import PeerAddress
from skyplane_core.errors import TransferFailed
from skyplane_core.spec import TransferOptions, TransferState
from skyplane_core.testing.objectserver import ObjectServer
from skyplane_core.tracker import Result
from tests.security.middle import CUT, Middle, Tamper, Unit, honest

At = Callable[..., Location]
MIB = 1024 * 1024
STRIPED = TransferOptions(part_size=5 * MIB, multipart_threshold=6 * MIB)
CANARY = b"canary-content-of-an-object-"
FORWARD = (FrameType.MANIFEST, FrameType.DATA)
BACK = (FrameType.ACK, FrameType.REFUSE)


class Tapped:
    """A dataplane of a reader and a writer, between whom somebody sits, and objects to be moved."""

    def __init__(self, dataplane: Dataplane, s3: ObjectServer, gcs: ObjectServer, source: At, destination: At) -> None:
        self.dataplane = dataplane
        self.gcs = gcs
        self._source, self._destination = source, destination
        draw = random.Random(7)
        self.objects = {f"p/canary-name-{n}": CANARY * draw.randint(0, 40) for n in range(40)}
        self.objects["p/canary-name-large"] = b"".join(CANARY + draw.randbytes(1000) for _ in range(12_000))
        for key, content in self.objects.items():
            s3.put("src", key, content, metadata={"canary": "canary-metadata"})
        self._head, self._writer = dataplane.reference.gateways
        self.middle = Middle((self._writer.host, self._writer.wire_port))
        self._tell(self.middle.port)
        self.born = self.pids()

    def _tell(self, port: int) -> None:
        self.dataplane.head.set_peers((PeerAddress(self._writer.gateway_id, self._writer.host, port),))

    def anew(self) -> None:
        """Another man in the middle, whom the next transfer's connections go through."""
        self.middle.close()
        self.middle = Middle((self._writer.host, self._writer.wire_port))
        self._tell(self.middle.port)

    def pids(self) -> list[dict[str, int]]:
        return [gateway.status().pids for gateway in self.dataplane.gateways]

    def move(self, into: str, tamper: Tamper = honest, options: TransferOptions = STRIPED) -> Result:
        self.middle.tamper = tamper
        prepared = self._client().prepare(self._source("p/"), self._destination(into), recursive=True, options=options)
        return self.dataplane.submit(prepared).wait(timeout=60)

    def _client(self) -> SkyplaneClient:
        return SkyplaneClient(self.dataplane._config)

    def assert_whole(self, into: str) -> None:
        there = {key for key in self.gcs.list("dst", into) if "/.skyplane/" not in key}
        assert there == {into + key.removeprefix("p/") for key in self.objects}
        self.assert_nothing_else(into)

    def assert_nothing_else(self, into: str) -> None:
        """What is there is what was there to be copied."""
        for key in self.gcs.list("dst", into):
            if "/.skyplane/" not in key:
                assert self.gcs.get("dst", key) == self.objects["p/" + key.removeprefix(into)]


@pytest.fixture
def tapped(
    s3: ObjectServer, gcs: ObjectServer, source: At, destination: At, client: SkyplaneClient
) -> Iterator[Tapped]:
    dataplane = client.dataplane()
    with dataplane.auto_deprovision():
        dataplane.provision()
        running = Tapped(dataplane, s3, gcs, source, destination)
        yield running
        running.middle.close()
        # Whatever somebody did on the wire, no process of a gateway died of it.
        assert running.pids() == running.born


def test_a_recording_shows_no_content_name_credential_or_secret(tapped: Tapped, client: SkyplaneClient) -> None:
    tapped.move("seen/").raise_for_state()
    tapped.assert_whole("seen/")
    seen = b"".join(unit.data for unit in tapped.middle.seen)
    assert set(tapped.middle.kinds().values()) == {"data", "link"}
    for secret in (b"canary", b"source-canary-secret", b"AKTEST", b"seen/", client.config.secret()):
        assert secret not in seen
    # What is compressible would show in lengths alone.
    assert {unit.header.type for unit in tapped.middle.seen if unit.header} >= {FrameType.MANIFEST, FrameType.ACK}


class Once:
    """Does something to one unit of those that ``wanted`` accepts, ``after`` so many of them, and to no other."""

    def __init__(self, wanted: Callable[[Unit], bool], change: Callable[[Unit, list[Unit]], list[bytes]]) -> None:
        self._wanted, self._change = wanted, change
        self._lock = threading.Lock()
        self.before: list[Unit] = []
        self.done = False

    def __call__(self, unit: Unit) -> list[bytes]:
        with self._lock:
            if self.done or not self._wanted(unit):
                return [unit.data]
            self.before.append(unit)
            if len(self.before) < 4:
                return [unit.data]
            self.done = True
            return self._change(unit, self.before)


def of(*types: FrameType) -> Callable[[Unit], bool]:
    return lambda unit: unit.header is not None and unit.header.type in types


def not_last(unit: Unit) -> bool:
    """A frame of content after which another one of its batch comes; else the writer would wait, and rightly so."""
    return of(FrameType.DATA)(unit) and unit.header is not None and not unit.header.last


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def moved(unit: Unit, **change: object) -> bytes:
    """The same body under a header that says something else, and that still parses where it can."""
    clear = bytearray(unit.data[:HEADER_SIZE])
    pack_header(memoryview(clear), parse_header(clear)._replace(**change))  # type: ignore[arg-type]
    return bytes(clear) + unit.data[HEADER_SIZE:]


def other_batch(unit: Unit, before: list[Unit]) -> bytes:
    """A frame of the same type that went past earlier, of another object or part."""
    assert unit.header is not None
    return next(u.data for u in before if u.header is not None and u.header.salt != unit.header.salt)


ATTACKS: dict[str, tuple[Callable[[Unit], bool], Callable[[Unit, list[Unit]], list[bytes]]]] = {
    "a byte of content": (of(FrameType.DATA), lambda unit, _: [flipped(unit.data, len(unit.data) // 2)]),
    "the tag": (of(FrameType.DATA), lambda unit, _: [flipped(unit.data, -1 + len(unit.data))]),
    "a name": (of(FrameType.MANIFEST), lambda unit, _: [flipped(unit.data, HEADER_SIZE + 5)]),
    "another object": (of(*FORWARD), lambda unit, _: [moved(unit, object=unit.header.object + 1)]),  # type: ignore[union-attr]
    "another part": (of(*FORWARD), lambda unit, _: [moved(unit, part=unit.header.part + 1)]),  # type: ignore[union-attr]
    "another destination": (of(*FORWARD), lambda unit, _: [moved(unit, destinations=3)]),
    "another offset": (of(FrameType.DATA), lambda unit, _: [moved(unit, offset=unit.header.offset + 1)]),  # type: ignore[union-attr]
    "the last flag": (not_last, lambda unit, _: [moved(unit, last=not unit.header.last)]),  # type: ignore[union-attr]
    "a frame of another batch": (of(FrameType.MANIFEST), lambda unit, before: [other_batch(unit, before)]),
    "a frame twice": (not_last, lambda unit, _: [unit.data, unit.data]),
    "a frame left out": (not_last, lambda _unit, _: []),
    "a batch's end cut off": (of(FrameType.DATA), lambda unit, _: [unit.data[: len(unit.data) // 2], CUT]),
    "the connection cut between frames": (of(FrameType.DATA), lambda _unit, _: [CUT]),
    "an ack altered": (of(FrameType.ACK), lambda unit, _: [flipped(unit.data, len(unit.data) - 20)]),
    "an ack of another part": (of(FrameType.ACK), lambda unit, before: [moved(before[0], salt=unit.header.salt)]),  # type: ignore[union-attr]
    "an old ack again": (of(FrameType.ACK), lambda unit, before: [before[0].data, unit.data]),
    "an ack left out": (of(FrameType.ACK), lambda _unit, _: [CUT]),
    "a refusal made up": (of(FrameType.ACK), lambda unit, _: [moved(unit, type=FrameType.REFUSE)]),
    "a message of a control link": (
        lambda unit: unit.kind == "link" and unit.number > 2,
        lambda unit, _: [flipped(unit.data, len(unit.data) - 1)],
    ),
    "a message of a control link twice": (
        lambda unit: unit.kind == "link" and unit.number > 2,
        lambda unit, _: [unit.data, unit.data],
    ),
}


def test_what_is_changed_once_is_noticed_and_sent_again(tapped: Tapped) -> None:
    """Each of them, at one moment of a transfer that goes on, and ends well with the right bytes."""
    for number, (name, (wanted, change)) in enumerate(ATTACKS.items()):
        attack = Once(wanted, change)
        try:
            result = tapped.move(f"{number}/", attack)
        except TimeoutError as error:
            raise AssertionError(f"{name}: the transfer does not end") from error
        result.raise_for_state()
        assert attack.done, f"{name}: there was nothing to change"
        tapped.assert_whole(f"{number}/")
        tapped.anew()


@pytest.mark.parametrize("types", [(FrameType.ACK,), (FrameType.DATA,)], ids=["acks", "content"])
def test_what_is_changed_always_is_never_called_done(tapped: Tapped, types: tuple[FrameType, ...]) -> None:
    def tamper(unit: Unit) -> list[bytes]:
        return [flipped(unit.data, len(unit.data) - 1)] if of(*types)(unit) else [unit.data]

    result = tapped.move("never/", tamper, TransferOptions(max_attempts=2, progress_timeout=60))
    assert result.progress.state is TransferState.FAILED
    with pytest.raises(TransferFailed):
        result.raise_for_state()
    assert result.progress.objects_copied == 0
    tapped.assert_nothing_else("never/")


def test_a_recorded_session_cannot_be_replayed(tapped: Tapped) -> None:
    tapped.move("once/").raise_for_state()
    kinds = tapped.middle.kinds()
    for key in list(tapped.gcs.list("dst")):
        tapped.gcs.delete("dst", key)
    writer = tapped.dataplane.reference.gateways[1]
    for number, kind in kinds.items():
        with socket.create_connection((writer.host, writer.wire_port), 60) as attacker, contextlib.suppress(OSError):
            attacker.sendall(tapped.middle.stream(number, forward=True))
            got = b""
            while piece := attacker.recv(65536):
                got += piece
            # A challenge, and after a proof that does not fit it nothing.
            assert len(got) <= 200, kind
    assert tapped.gcs.list("dst") == []


def test_frames_of_an_earlier_session_spliced_into_this_one_do_nothing(tapped: Tapped) -> None:
    tapped.move("first/").raise_for_state()
    old = tapped.middle.frames(*FORWARD)
    for key in list(tapped.gcs.list("dst", "first/")):
        tapped.gcs.delete("dst", key)
    batch = [unit for unit in old if unit.header and old[0].header and unit.header.salt == old[0].header.salt]
    tapped.anew()
    attack = Once(of(FrameType.MANIFEST), lambda unit, _: [*(old.data for old in batch), unit.data])
    tapped.move("second/", attack).raise_for_state()
    tapped.assert_whole("second/")
    # That transfer has ended on this writer: its frames open with no key that is left.
    assert attack.done
    tapped.assert_nothing_else("first/")
    assert [key for key in tapped.gcs.list("dst", "first/") if "/.skyplane/" not in key] == []


def test_a_whole_batch_again_on_the_same_connection_is_put_once(tapped: Tapped) -> None:
    """As a relay could do it, with every batch of many a connection: each still brings one of them home."""
    last: dict[int, list[bytes]] = {}

    def tamper(unit: Unit) -> list[bytes]:
        if unit.header is None or not of(*FORWARD)(unit) or unit.connection > 12:
            return [unit.data]
        frames = last.setdefault(unit.connection, [])
        frames.append(unit.data)
        if not unit.header.last:
            return [unit.data]
        again, last[unit.connection] = frames, []
        return [unit.data, *again]

    tapped.move("again/", tamper, msgspec.structs.replace(STRIPED, max_attempts=50)).raise_for_state()
    tapped.assert_whole("again/")


def test_a_whole_batch_in_the_place_of_another_is_noticed_at_once(tapped: Tapped) -> None:
    """Nothing else comes for the one that was taken away: without a sign from the writer, its reader would wait."""
    first: list[Unit] = []
    lock = threading.Lock()
    taken: list[bytes] = []

    def tamper(unit: Unit) -> list[bytes]:
        if unit.header is None or not of(*FORWARD)(unit):
            return [unit.data]
        with lock:
            known = first[0].header if first else None
            if known is None or not first[-1].header or not first[-1].header.last:
                if known is None or unit.header.salt == known.salt:
                    first.append(unit)
                return [unit.data]
            if unit.header.salt == known.salt or (taken and unit.header.salt != taken[0]):
                return [unit.data]
            if taken:
                return []
            taken.append(unit.header.salt)
            return [whole.data for whole in first]

    tapped.move("instead/", tamper).raise_for_state()
    assert taken
    tapped.assert_whole("instead/")
