"""Two ends of a sync under test: S3 and GCS servers, and a directory; and one gateway that serves all tests."""

from __future__ import annotations

import dataclasses
import itertools
import os
from pathlib import Path
from typing import Any

from skyplane_core.client import Dataplane, Location, SkyplaneClient
from skyplane_core.dry_run import DryRun
from skyplane_core.filters import Filters, NameRule
from skyplane_core.model import StoreConfig
from skyplane_core.prepare import Prepared, check
from skyplane_core.spec import Compare, DeleteCap, Outcome, TransferOptions
from skyplane_core.testing.objectserver import ObjectServer
from skyplane_core.tracker import Result

ANYTHING = DeleteCap()
_runs = itertools.count()


@dataclasses.dataclass
class End:
    """A prefix of a bucket, or a directory, as whoever else uses it sees it."""

    location: Location
    server: ObjectServer | None

    @property
    def kind(self) -> str:
        return self.location.store.kind

    def put(self, key: str, data: bytes = b"x", *, age: float | None = None) -> None:
        """Write an object, for a directory ``age`` seconds before now."""
        if self.server is not None:
            self.server.put("b", self.location.key + key, data)
            return
        path = self._path(key)
        if key.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        if age is not None:
            self.date(key, path.stat().st_mtime - age)

    def date(self, key: str, modified: float) -> None:
        """Say when a file was written."""
        os.utime(self._path(key), (modified, modified))

    def modified(self, key: str) -> float:
        if self.server is not None:
            return float(self.server.head("b", self.location.key + key)["modified"])
        return self._path(key).stat().st_mtime

    def delete(self, key: str) -> None:
        if self.server is not None:
            self.server.delete("b", self.location.key + key)
        else:
            path = self._path(key)
            path.unlink()
            while not any(path.parent.iterdir()):
                path = path.parent
                path.rmdir()

    def get(self, key: str) -> bytes:
        if self.server is not None:
            return self.server.get("b", self.location.key + key)
        return self._path(key).read_bytes()

    def listed(self) -> list[str]:
        """All keys but ours, in the order of their bytes; of a directory those of files and of empty directories."""
        if self.server is not None:
            prefix = self.location.key
            found = [key.removeprefix(prefix) for key in self.server.list("b", prefix)]
        else:
            root = Path(self.location.store.bucket)
            everything = root.rglob("*") if root.exists() else ()
            shown = [path for path in everything if not path.is_dir() or not any(path.iterdir())]
            found = [path.relative_to(root).as_posix() + "/" * path.is_dir() for path in shown]
        return sorted((key for key in found if ".skyplane/" not in key), key=str.encode)

    def _path(self, key: str) -> Path:
        return Path(self.location.store.bucket) / key


@dataclasses.dataclass
class Bench:
    """Runs syncs on one gateway."""

    client: SkyplaneClient
    dataplane: Dataplane
    servers: dict[str, ObjectServer]
    directory: Path

    def end(self, kind: str) -> End:
        """A new, empty place."""
        name = f"t{next(_runs)}"
        if kind == "local":
            return End(Location(StoreConfig("local", str(self.directory / name)), ""), None)
        server = self.servers[kind]
        store = StoreConfig(kind, "b", endpoint_url=server.endpoint_url, region="us-east-1", path_style=kind == "s3")
        return End(Location(store, f"{name}/"), server)

    def ends(self, pair: str) -> tuple[End, End]:
        """Both ends of such as ``s3-gcs``."""
        source, destination = pair.split("-")
        return self.end(source), self.end(destination)

    def prepared(
        self,
        source: End,
        destination: End,
        compare: Compare = Compare.EXACT,
        *,
        filters: Filters | None = None,
        mode: str = "sync",
        **options: Any,
    ) -> Prepared:
        return self.client.prepare(
            source.location,
            destination.location,
            mode=mode,
            recursive=True,
            filters=filters,
            options=TransferOptions(compare=compare, **options),
        )

    def run(self, prepared: Prepared) -> Result:
        check(prepared, create_directory=True)
        return self.dataplane.submit(prepared).wait()

    def sync(self, source: End, destination: End, compare: Compare = Compare.EXACT, **how: Any) -> Result:
        """Run it; whatever comes of it."""
        return self.run(self.prepared(source, destination, compare, **how))

    def told(self, source: End, destination: End, compare: Compare = Compare.EXACT, **how: Any) -> dict[str, str]:
        """Run a sync that succeeds: what was done with each object and why, by the destination's key.

        It is what a dry run has said just before.
        """
        prepared = self.prepared(source, destination, compare, **how)
        planned = self.client.dry_run(prepared)[1]
        plan = {decision.destination_key: f"{decision.action.value} {decision.reason}" for decision in planned}
        result = self.run(prepared)
        assert result.ok, result.progress
        words = {Outcome.COPIED: "copy", Outcome.SKIPPED: "skip", Outcome.DELETED: "delete"}
        done = {line.destination_key: f"{words[line.outcome]} {line.reason}" for line in result.lines()}
        assert done == plan
        totals, progress = planned.totals, result.progress
        assert (totals.copy, totals.skip, totals.delete, totals.bytes, totals.stopped_at) == (
            progress.objects_copied,
            progress.objects_skipped,
            progress.objects_deleted,
            progress.bytes_copied,
            progress.stopped_at,
        )
        return {key.removeprefix(destination.location.key): what for key, what in done.items()}

    def plan(self, source: End, destination: End, compare: Compare = Compare.EXACT, **how: Any) -> DryRun:
        return self.client.dry_run(self.prepared(source, destination, compare, **how))[1]


def names(*rules: str) -> Filters:
    """Filters of such as ``+*.csv`` and ``-tmp/``."""
    return Filters(rules=tuple(NameRule(rule[0] == "+", rule[1:]) for rule in rules))
