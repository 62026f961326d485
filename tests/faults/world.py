"""One case's surroundings: buckets with objects, gateways with a proxy between them, and what must hold at the end."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import psutil

from skyplane_core.client import ClientConfig, Location, SkyplaneClient
from skyplane_core.control import PeerAddress
from skyplane_core.coordinator.journal import AckRecord, ClosedRecord, Record, UploadRecord, decode
from skyplane_core.dataplane import Dataplane
from skyplane_core.model import Compression, Credentials, StoreConfig
from skyplane_core.prepare import Prepared, check
from skyplane_core.provision.base import GatewayAddress
from skyplane_core.spec import Compare, TransferOptions, TransferState
from skyplane_core.testing.faultproxy import FaultProxy
from skyplane_core.testing.objectserver import ObjectServer
from skyplane_core.tracker import Result, Tracker
from tests.faults.cases import LARGE, MIB, PART, TWO
from tests.faults.readers import ACCESS, REGION, SECRET, TOKEN, reader

PATIENCE = 120.0
"""Seconds within which anything that a test waits for has to come, on a busy machine as well."""
CONTROL_SECRET = b"a control secret for the fault campaign, long enough"
STATE = "/.skyplane/"
_LISTEN = "0A"
"""In /proc/net/tcp, see proc(5)."""
PLACES: dict[str, Callable[[int], int]] = {
    "head": lambda _count: 0,
    "reader": lambda _count: 1,
    "relay": lambda _count: 1,
    "writer": lambda count: count - 1,
}
"""Which gateway of a dataplane of so many has a role."""

OPTIONS = TransferOptions(
    part_size=PART,
    multipart_threshold=PART + MIB,
    concurrency=2,
    compression=Compression.NONE,
    progress_timeout=60.0,
    max_attempts=4,
)


def until(condition: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    """Wait for ``condition``, looking every few milliseconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.02)


def bodies(seed: int, *, large: int = 6 * PART - 12_345) -> dict[str, bytes]:
    """The objects of a case, by name below its prefix: striped ones, small ones, an empty one."""
    draw = random.Random(seed)
    sizes = {LARGE: large, "medium": PART + MIB + 1, "empty": 0, "one": 1} | {f"small/{n}": 900 + n for n in range(8)}
    return {name: draw.randbytes(size) for name, size in sizes.items()}


class World:
    """Fresh buckets on running servers. ``source`` and ``destination`` are the servers, ``origin`` what lies at p/."""

    def __init__(self, source: ObjectServer, destination: ObjectServer, seed: int, name: str) -> None:
        self.source, self.destination = source, destination
        self.seed = seed
        self.bucket = name
        for server in (source, destination):
            server.set_faults(None)
            server.release()
            server.set_network(latency=0, bandwidth=0)
            self.grant(server)
            server.create_bucket(name)
        self.origin: dict[str, bytes] = {}
        self.versions: dict[str, list[bytes]] = {}
        self.fill(bodies(seed))
        self.reader = reader(destination, name)
        destination.put(name, "q-of-others/x", b"not ours")
        self.foreign = [self.reader.begin_upload(key, b"theirs") for key in (f"q/{LARGE}", "elsewhere")]
        self._before = destination.requests["UploadPart"]

    def close(self) -> None:
        self.reader.close()
        for server in (self.source, self.destination):
            server.set_faults(None)
            server.release()
            # The servers outlive hundreds of cases; what these leave would fill the machine's memory.
            server.drop_bucket(self.bucket)

    @staticmethod
    def grant(server: ObjectServer) -> None:
        """Have the server accept the campaign's credentials (again)."""
        if server.kind == "s3":
            server.set_credentials({ACCESS: SECRET})
        else:
            server.set_credentials(tokens=[TOKEN])

    def fill(self, objects: dict[str, bytes]) -> None:
        for key, body in objects.items():
            self.origin[key] = body
            self.versions.setdefault(key, []).append(body)
            self.source.put(self.bucket, f"p/{key}", body)

    # --- transfers ---------------------------------------------------------------------------------------------------

    def store(self, server: ObjectServer, endpoint: str = "") -> StoreConfig:
        url = endpoint or server.endpoint_url
        if server.kind == "s3":
            credentials = Credentials(access_key=ACCESS, secret_key=SECRET)
            return StoreConfig(
                "s3", self.bucket, endpoint_url=url, region=REGION, path_style=True, credentials=credentials
            )
        return StoreConfig("gcs", self.bucket, endpoint_url=url, credentials=Credentials(token=TOKEN))

    def prepare(
        self,
        *,
        options: TransferOptions = OPTIONS,
        source: str = "",
        destination: str = "",
        again: str = "",
    ) -> Prepared:
        """A copy of p/ to q/, through other endpoints if any are given; ``again``: the id of one to continue.

        As the command line does: what is to be resumed is looked for; an id that left nothing is begun anew.
        """
        resume = bool(again) and any(again in key for key in self.reader.list())
        if again:
            options = msgspec.structs.replace(options, compare=Compare.EXACT)
        prepared = SkyplaneClient().prepare(
            Location(self.store(self.source, source), "p/"),
            Location(self.store(self.destination, destination), "q/"),
            recursive=True,
            options=options,
            transfer_id=again or None,
            resume=resume,
        )
        if again:
            check(prepared)
        return prepared

    def resume(self, prepared: Prepared, layout: str = TWO) -> Result:
        """Continue with a new client on new gateways, which must end well."""
        again = self.prepare(again=prepared.spec.transfer_id)
        with dataplane(layout) as (plane, _proxy):
            result = plane.submit(again).wait(timeout=PATIENCE)
        result.raise_for_state()
        return result

    # --- what must hold ----------------------------------------------------------------------------------------------

    def visible(self) -> dict[str, bytes]:
        """What a reader sees under q/, without our state; every object must be one version of its source, whole."""
        found = {}
        for key in self.reader.list():
            if not key.startswith("q/") or STATE in f"/{key}":
                continue
            name = key.removeprefix("q/")
            body = self.reader.get(key)
            assert body in self.versions.get(name, ()), f"{key} is visible and holds none of its source's versions"
            found[name] = body
        return found

    def assert_exact(self) -> None:
        """The destination is the source as it is now, and nothing of ours is open."""
        found = self.visible()
        assert sorted(found) == sorted(self.origin)
        for name, body in self.origin.items():
            assert found[name] == body, f"{name} is not what the source holds now"

    def assert_closed(self, *, lost_answers: int = 0) -> None:
        """No upload of ours is open, but for an empty one where the store's word that it is open may have been lost."""
        uploads = self.destination.uploads(self.bucket)
        ours = [(key, list(parts)) for key, upload_id, parts in uploads if upload_id not in self.foreign]
        assert not [key for key, parts in ours if parts], ours
        assert len(ours) <= lost_answers, ours

    def assert_others_untouched(self) -> None:
        """Uploads and objects of others are as they were."""
        theirs = {upload_id: list(parts) for _key, upload_id, parts in self.destination.uploads(self.bucket)}
        assert [theirs.get(upload) for upload in self.foreign] == [[1], [1]]
        assert self.reader.get("q-of-others/x") == b"not ours"

    def failures_named(self, result: Result) -> None:
        """A transfer that did not end well says what is missing."""
        progress = result.progress
        assert progress.state is TransferState.FAILED
        assert progress.error or progress.failures, "it failed without a reason"
        assert all(key.removeprefix("p/") in self.origin and reason for key, reason in progress.failures)

    # --- what was sent -----------------------------------------------------------------------------------------------

    @property
    def parts_sent(self) -> int:
        """UploadPart requests since the case began, without those of others."""
        return self.destination.requests["UploadPart"] - self._before

    @property
    def parts(self) -> int:
        """Parts of the striped objects."""
        return sum(-(-len(body) // PART) for body in self.origin.values() if len(body) > OPTIONS.multipart_threshold)

    def journal(self) -> list[Record]:
        """What a later run would find in the journal."""
        records: list[Record] = []
        for key in self.destination.list(self.bucket, "q/.skyplane/"):
            # A journal that is being deleted may be gone by now.
            with contextlib.suppress(KeyError, FileNotFoundError):
                if "/journal-" in key:
                    records += decode(self.destination.get(self.bucket, key))
        return records

    def recorded(self) -> int:
        """How many uploads the journal names."""
        return sum(isinstance(record, UploadRecord) for record in self.journal())

    def known(self) -> tuple[int, int]:
        """Parts, and their bytes, that a later run can know to be stored.

        Those that the journal notes, or of uploads that were completed; at a destination that lists parts with their
        checksums, all that it lists, unless the source vouches by a checksum that no list of parts has (S3, CRC64NVME).
        """
        records = self.journal()
        uploads = {record.upload_id: record for record in records if isinstance(record, UploadRecord)}
        closed = {record.upload_id for record in records if isinstance(record, ClosedRecord)} & set(uploads)
        sizes = {(r.upload_id, r.ack.part): r.ack.size for r in records if isinstance(r, AckRecord)}
        parts = {(upload, part) for upload, part in sizes if upload not in closed}
        noted = sum(sizes[part] for part in parts) + sum(uploads[upload].size for upload in closed)
        if self.destination.kind == "s3" and self.source.kind != "s3":
            listed = self.destination.uploads(self.bucket)
            parts |= {(upload, part) for _key, upload, stored in listed if upload in uploads for part in stored}
        return len(parts) + sum(-(-uploads[upload].size // PART) for upload in closed), noted

    def settle(self, tracker: Tracker) -> None:
        """Wait until every part that was acknowledged is in the journal (it is written every two seconds)."""
        small = sum(len(body) for body in self.origin.values() if len(body) <= OPTIONS.multipart_threshold)
        until(lambda: self.known()[1] >= tracker.progress().bytes_acked - small, "acks reach the journal")


@contextlib.contextmanager
def dataplane(
    layout: str = TWO,
    plane: Dataplane | None = None,
    pool_bytes: int = 96 * MIB,
    *,
    proxied: str = "writer",
    dialler: int | None = None,
) -> Iterator[tuple[Dataplane, FaultProxy]]:
    """Gateways, and a proxy before the wire port of one of them; nothing of them is left at the end.

    Args:
        layout: see :class:`ClientConfig`; empty for one gateway that reads and writes.
        plane: gateways that another client has started.
        proxied: the role of the gateway that the proxy stands before.
        dialler: the number of the gateway whose connections to it lead through the proxy; None: everybody's.
    """
    if plane is None:
        config = ClientConfig(layout=layout, pool_bytes=pool_bytes, control_secret=CONTROL_SECRET)
        plane = SkyplaneClient(config).dataplane()
    plane.provision()
    addresses = plane.reference.gateways
    families = [family(address.pid) for address in addresses]
    sockets = listening(addresses)
    assert len(sockets) == 2 * len(addresses)
    place = PLACES[proxied](len(addresses))
    behind = addresses[place]
    try:
        with FaultProxy((behind.host, behind.wire_port)) as proxy:
            peers = [PeerAddress(a.gateway_id, a.host, a.wire_port) for a in addresses]
            peers[place] = PeerAddress(behind.gateway_id, *proxy.address)
            for number, gateway in enumerate(plane.gateways):
                if number != place and dialler in (None, number):
                    gateway.set_peers(tuple(peers))
            yield plane, proxy
            proxy.resume()
            plane.deprovision()
    finally:
        plane.deprovision()
    gone = [process for members in families for process in members]
    until(lambda: not any(alive(process) for process in gone), "all processes of the gateways have ended")
    assert not sockets & listening(addresses), "a gateway that has ended still listens"


def family(pid: int) -> list[psutil.Process]:
    """A gateway's processes, its control process first; none if it has ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        control = psutil.Process(pid)
        return [control, *control.children(recursive=True)]
    return []


def alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def listening(addresses: Sequence[GatewayAddress]) -> set[str]:
    """The sockets, by inode, that listen on the ports of gateways. A port that is free may be anybody's next."""
    ports = {port for address in addresses for port in (address.control_port, address.wire_port)}
    rows = (row.split() for row in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:])
    return {row[9] for row in rows if row[3] == _LISTEN and int(row[1].rpartition(":")[2], 16) in ports}


def kill(plane: Dataplane, role: str, process: str) -> None:
    """kill -9 of one process of the gateway that has ``role``, or of all; returns when the gateway has ended."""
    index = PLACES[role](len(plane.reference.gateways))
    members = family(plane.reference.gateways[index].pid)
    pids = plane.gateways[index].status().pids
    victims = members if process == "all" else [psutil.Process(pids[process])]
    for victim in victims:
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.kill()
    until(lambda: not any(alive(member) for member in members), f"the {role} gateway has ended")
