"""Objects that a flattening copy left out because another one of the same name was written."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from typing import Any

from skyplane_core.spec import Outcome, ReceiptLine


def warn_of_duplicates(log: Any, lines: Sequence[ReceiptLine]) -> None:
    """A warning for each, in the stock operators' words; what was at the destination before is none."""
    written = {line.destination_key for line in lines if line.outcome is not Outcome.SKIPPED} - {""}
    for line in lines:
        if line.outcome is Outcome.SKIPPED and line.destination_key in written:
            log.warning("Skipping duplicate file %s (transforms to %s)", line.key, posixpath.basename(line.key))
