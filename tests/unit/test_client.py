"""Misuse of the Python API, told before anything is started."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from skyplane_core.client import ClientConfig, SkyplaneClient
from skyplane_core.errors import UsageError

CONFIG = ClientConfig(control_secret=b"a-secret-of-a-test-that-is-long-enough")


def test_what_is_queued_stays_so_while_there_is_no_gateway_to_run_it(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    dataplane = SkyplaneClient(CONFIG).dataplane()
    dataplane.queue_copy(str(tmp_path / "a"), str(tmp_path / "b"))
    for _ in range(2):
        with pytest.raises(UsageError, match=r"not provisioned\. Call provision\(\) first"):
            dataplane.run_async()


def test_nothing_queued_is_told_whether_provisioned_or_not() -> None:
    with pytest.raises(UsageError, match=r"nothing is queued\. Call queue_copy"):
        SkyplaneClient(CONFIG).dataplane().run_async()


@pytest.mark.parametrize("gateways", [0, -1, "2", None, 1.5])
def test_a_number_of_gateways_that_is_none_is_refused(gateways: Any) -> None:
    with pytest.raises(UsageError, match=r"a dataplane of .* gateways\. Use at least one"):
        ClientConfig(gateways=gateways)
