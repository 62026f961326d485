from __future__ import annotations

import os
import time
from pathlib import Path

from skyplane_core.provision.local import LOG_DAYS, _prune


def test_logs_of_long_gone_dataplanes_are_removed_and_recent_ones_stay(tmp_path: Path) -> None:
    old = time.time() - (LOG_DAYS + 1) * 24 * 3600
    for name in ("dp-old", "dp-running-for-long", "dp-new", "not-ours"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "gateway-0.log").write_text("x")
        if name != "dp-new":
            os.utime(tmp_path / name / "gateway-0.log", (old, old))
            os.utime(tmp_path / name, (old, old))
    (tmp_path / "dp-running-for-long" / "gateway-1.log").write_text("still written to")
    os.utime(tmp_path / "dp-running-for-long", (old, old))
    _prune(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dp-new", "dp-running-for-long", "not-ours"]
