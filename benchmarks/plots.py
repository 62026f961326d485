"""Pictures of results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl


def bars(result: dict[str, Any], path: Path, unit: str = "MB/s") -> None:
    """MB/s or objects/s of each row of each table, as horizontal bars."""
    mpl.use("Agg")
    # The same figures give the same file.
    mpl.rcParams["svg.hashsalt"] = "bars"
    from matplotlib import pyplot as plt

    tables = {name: rows for name, rows in result.items() if isinstance(rows, list) and rows}
    heights = [len(rows) for rows in tables.values()]
    figure, axes = plt.subplots(
        len(tables), 1, figsize=(8, 0.35 * sum(heights) + 0.8 * len(tables)), height_ratios=heights, squeeze=False
    )
    for axis, (name, rows) in zip(axes[:, 0], tables.items(), strict=True):
        labels = [row["name"] for row in rows]
        values = [row.get("mb_per_second", row.get("objects_per_second", 0.0)) for row in rows]
        ours = ["tab:blue" if "gateway" in label else "tab:gray" for label in labels]
        axis.barh(labels, values, color=ours)
        axis.invert_yaxis()
        axis.set_title(name, fontsize="medium", loc="left")
        axis.bar_label(axis.containers[0], fmt="%.0f", padding=2, fontsize="small")
    axes[-1, 0].set_xlabel(unit)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
