"""Who listens to an Airflow: a statsd server, and the file that OpenLineage's events are written to."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import select
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@dataclasses.dataclass
class Observers:
    """They hear only what is ours: metrics of transfers, and events of DAGs that ask for lineage."""

    statsd: socket.socket
    events_file: Path

    def environment(self) -> dict[str, str]:
        """What makes an Airflow talk to them."""
        host, port = self.statsd.getsockname()
        return {
            "AIRFLOW__METRICS__STATSD_ON": "True",
            "AIRFLOW__METRICS__STATSD_HOST": host,
            "AIRFLOW__METRICS__STATSD_PORT": str(port),
            "AIRFLOW__METRICS__METRICS_ALLOW_LIST": "skyplane",
            "AIRFLOW__OPENLINEAGE__SELECTIVE_ENABLE": "True",
            "AIRFLOW__OPENLINEAGE__NAMESPACE": "tests",
            "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(
                {"type": "file", "log_file_path": str(self.events_file), "append": True}
            ),
        }

    def forget(self) -> None:
        """All metrics that have come: other tests may use the same Airflow."""
        while select.select([self.statsd], [], [], 0)[0]:
            self.statsd.recv(4000)

    def metrics(self, *names: str) -> dict[str, list[str]]:
        """What came, by name, once each of ``names`` was there."""
        found: dict[str, list[str]] = {}
        while set(names) - found.keys():
            name, _, value = self.statsd.recv(4000).decode().partition(":")
            found.setdefault(name, []).append(value)
        return found

    def events(self, job: str) -> dict[str, dict[str, Any]]:
        """The last event of a job, by its type."""
        lines = self.events_file.read_text().splitlines() if self.events_file.exists() else []
        events = [json.loads(line) for line in lines]
        return {event["eventType"]: event for event in events if event["job"]["name"] == job}


@contextlib.contextmanager
def observers(directory: Path) -> Iterator[Observers]:
    """Listen on loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as statsd:
        statsd.bind(("127.0.0.1", 0))
        statsd.settimeout(20)
        yield Observers(statsd, directory / "openlineage.jsonl")
