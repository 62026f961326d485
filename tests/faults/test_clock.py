"""A wall clock that jumps under a running transfer changes nothing: waits, leases and expiry are monotonic."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from skyplane_core.client import ClientConfig, SkyplaneClient
from skyplane_core.identity import DataplaneIdentity, new_dataplane_id
from skyplane_core.provision.local import LocalProvisioner
from skyplane_core.testing.objectserver import Fault, Faults
from tests.faults.cases import LARGE, MIB
from tests.faults.world import CONTROL_SECRET, OPTIONS, PATIENCE, World, dataplane

YEARS = 10 * 365 * 86400.0
SKEW = 800.0
"""S3 refuses signatures that are 15 minutes off; this is still more than a lease, an expiry or a stall may last."""


@pytest.mark.parametrize(("pair", "jump"), [(("gcs", "gcs"), YEARS), (("gcs", "gcs"), -YEARS)], ids=["forward", "back"])
def test_a_jump_of_years(pair: tuple[str, str], jump: float, world: Callable[..., World], tmp_path: Path) -> None:
    run(world(pair), jump, tmp_path)


@pytest.mark.parametrize("jump", [SKEW, -SKEW], ids=["forward", "back"])
def test_a_jump_that_signatures_survive(jump: float, world: Callable[..., World], tmp_path: Path) -> None:
    run(world(("s3", "s3")), jump, tmp_path)


def jump_to(offset: Path, seconds: float) -> None:
    """At once: the gateways may look at any moment, and an empty file is no time."""
    prepared = offset.with_suffix(".new")
    prepared.write_text(str(seconds))
    prepared.replace(offset)


def run(here: World, jump: float, tmp_path: Path) -> None:
    offset = tmp_path / "offset"
    jump_to(offset, 0.0)
    identity = DataplaneIdentity(CONTROL_SECRET, new_dataplane_id())
    provisioner = LocalProvisioner(
        identity,
        pool_bytes=96 * MIB,
        expiry_seconds=300.0,
        command=(sys.executable, "-I", str(Path(__file__).with_name("jumping_gateway.py")), str(offset)),
    )
    reference = provisioner.reference(provisioner.start(2))
    plane = SkyplaneClient(ClientConfig(control_secret=CONTROL_SECRET)).attach(reference)
    # The transfer waits at one part, so that it is in the middle when the clock jumps.
    here.destination.set_faults(Faults(Fault("UploadPart", "hold-before", key=f"*/{LARGE}", nth=(3,))))
    options = msgspec.structs.replace(OPTIONS, progress_timeout=30.0)
    with dataplane(plane=plane) as (_plane, _proxy):
        tracker = plane.submit(here.prepare(options=options))
        here.destination.wait_held()
        jump_to(offset, jump)
        expires = plane.gateways[1].status().expires_in_seconds
        assert 0 < expires <= 300
        here.destination.release()
        tracker.wait(timeout=PATIENCE).raise_for_state()
        jump_to(offset, 0.0)
    here.assert_exact()
    here.assert_closed()
