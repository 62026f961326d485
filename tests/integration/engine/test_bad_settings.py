"""Settings that cannot work are refused by name: no gateway is started for them, and neither end sees a write."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from skyplane_core.client import ClientConfig, Location, SkyplaneClient
from skyplane_core.errors import StoreRejected, UsageError
from skyplane_core.planner.plan import Via
from skyplane_core.provision.hosts import Role, SshHost
from skyplane_core.provision.local import LocalProvisioner
from skyplane_core.provision.ssh import SshProvisioner
from skyplane_core.spec import TransferOptions
from skyplane_core.stores import gcs as gcs_store
from skyplane_core.testing.objectserver import ObjectServer

MIB = 1024 * 1024
GIB = 1024 * MIB
SECRET = b"a control secret for tests, 32 bytes or more"

At = Callable[..., Location]


@pytest.fixture(autouse=True)
def started(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many gateways each call for some asked for; the real ones go on as they are."""
    asked: list[int] = []
    for kind in (LocalProvisioner, SshProvisioner):

        def start(self: Any, count: int, real: Callable[[Any, int], Any] = kind.start) -> Any:
            asked.append(count)
            return real(self, count)

        monkeypatch.setattr(kind, "start", start)
    return asked


OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"concurrency": 0}, "concurrency cannot be 0.*>= 1"),
    ({"concurrency": -4}, "concurrency cannot be -4.*>= 1"),
    ({"concurrency": 1 << 20}, "concurrency cannot be 1048576.*<= 65536"),
    ({"concurrency": "many"}, "concurrency cannot be 'many'"),
    ({"max_attempts": 0}, "max_attempts cannot be 0.*>= 1"),
    ({"progress_timeout": 0}, r"progress_timeout cannot be 0.*> 0"),
    ({"progress_timeout": -1.5}, r"progress_timeout cannot be -1.5.*> 0"),
    ({"progress_timeout": math.nan}, "progress_timeout cannot be nan"),
    ({"progress_timeout": math.inf}, "progress_timeout cannot be inf"),
    ({"part_size": -1}, "part_size cannot be -1.*>= 0"),
    ({"multipart_threshold": -1}, "multipart_threshold cannot be -1.*>= 0"),
    ({"compression": "zip"}, "compression cannot be 'zip'"),
    ({"part_size": MIB}, r"part_size is 1048576 bytes.*gs://dst.*5242880 to 5368709120"),
    ({"part_size": 5 * MIB - 1}, r"part_size is 5242879 bytes.*gs://dst.*5242880 to 5368709120"),
    ({"part_size": 65 * MIB}, r"part_size is 68157440 bytes.*67108864.*134217728"),
]
CONFIGS: list[tuple[dict[str, Any], str]] = [
    ({"gateways": 0}, "0 gateways"),
    ({"gateways": -1}, "-1 gateways"),
    ({"gateways": 4}, "4 gateways without roles"),
    ({"layout": "two"}, "'two' is not a layout"),
    ({"layout": "0:1:1"}, "'0:1:1' has no reader"),
    ({"layout": "1:1:0"}, "no writer"),
    ({"layout": "30:30:30"}, "more than 32 gateways"),
    ({"gateways": 2, "via": Via.BOTH}, "no relay"),
    ({"pool_bytes": 0}, "pool_bytes is 0"),
    ({"pool_bytes": -MIB}, "pool_bytes is -1048576"),
    ({"pool_bytes": 10 * MIB - 1}, r"buffer pool of 10485759 bytes.*gs://dst.*at least 10485760"),
    ({"expiry_seconds": 0}, "expiry_seconds is 0"),
    ({"expiry_seconds": math.inf}, "expiry_seconds is inf"),
    ({"control_secret": b"short"}, "control secret has 5 bytes"),
    ({"layout": "1:1", "hosts": (SshHost("192.0.2.1"),)}, "layout.*hosts"),
    ({"hosts": (SshHost("192.0.2.1"), SshHost("192.0.2.1"))}, r"given twice.*192\.0\.2\.1"),
    ({"hosts": (SshHost("192.0.2.1", role=Role.READER),)}, r"may be a writer.*192\.0\.2\.1"),
    ({"hosts": (SshHost("192.0.2.1", dials_out=True), SshHost("192.0.2.2"))}, r"head.*gateway-0"),
]


@pytest.mark.parametrize(("settings", "told"), OPTIONS, ids=lambda value: str(value)[:40])
@pytest.mark.parametrize("gateways", [1, 2])
def test_options_of_a_transfer(
    s3: ObjectServer, gcs: ObjectServer, source: At, destination: At, started: list[int],
    settings: dict[str, Any], told: str, gateways: int,
) -> None:  # fmt: skip
    s3.put("src", "p/a", b"x")
    client = SkyplaneClient(ClientConfig(gateways=gateways, pool_bytes=128 * MIB, control_secret=SECRET))
    with pytest.raises(UsageError, match=told):
        client.copy(source("p/"), destination("q/"), recursive=True, options=TransferOptions(**settings))
    nothing_happened(s3, gcs, started)


@pytest.mark.parametrize(("settings", "told"), CONFIGS, ids=lambda value: str(value)[:40])
def test_settings_of_a_client(
    s3: ObjectServer, gcs: ObjectServer, source: At, destination: At, started: list[int],
    settings: dict[str, Any], told: str,
) -> None:  # fmt: skip
    s3.put("src", "p/a", b"x")
    with pytest.raises(UsageError, match=told):
        SkyplaneClient(ClientConfig(**{"control_secret": SECRET, **settings})).copy(
            source("p/"), destination("q/"), recursive=True
        )
    nothing_happened(s3, gcs, started)


@pytest.mark.parametrize(
    "settings",
    [
        settings
        for settings, told in CONFIGS
        if "gs://" not in told and "hosts" not in settings and "secret" not in told
    ],
    ids=str,
)
def test_a_dataplane_is_not_started_and_no_directory_made(
    tmp_path: Path, started: list[int], settings: dict[str, Any]
) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a").write_bytes(b"x")
    with pytest.raises(UsageError):
        SkyplaneClient(ClientConfig(**{"control_secret": SECRET, **settings})).dataplane().provision()
    with pytest.raises(UsageError):
        SkyplaneClient(ClientConfig(**{"control_secret": SECRET, **settings})).copy(
            str(tmp_path / "src"), str(tmp_path / "out"), recursive=True
        )
    assert started == []
    assert [path.name for path in tmp_path.iterdir()] == ["src"]


def test_an_object_that_no_part_size_cuts_is_refused_at_the_start(
    s3: ObjectServer, gcs: ObjectServer, source: At, destination: At, started: list[int], monkeypatch: Any
) -> None:
    # A store that takes few parts, so that the object need not have a terabyte.
    few = msgspec.structs.replace(gcs_store.CAPABILITIES, max_parts=2)
    monkeypatch.setattr(gcs_store, "CAPABILITIES", few)
    s3.put("src", "p/large", bytes(21 * MIB))
    client = SkyplaneClient(ClientConfig(pool_bytes=20 * MIB, control_secret=SECRET))
    with pytest.raises(StoreRejected, match=r"s3://src/p/large.*pool of at least 22020096 bytes"):
        client.copy(source("p/large"), destination("q/large"))
    nothing_happened(s3, gcs, started)


def nothing_happened(s3: ObjectServer, gcs: ObjectServer, started: list[int]) -> None:
    assert started == []
    assert gcs.list("dst") == []
    assert gcs.uploads("dst") == []
    assert s3.list("src") in (["p/a"], ["p/large"])
    assert s3.uploads("src") == []
