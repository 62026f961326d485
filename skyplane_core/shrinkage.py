"""What compression chose between gateways, added up and put into words. Pure."""

from __future__ import annotations

from skyplane_core.model import Shrinkage
from skyplane_core.units import human


def both(one: Shrinkage | None, other: Shrinkage | None) -> Shrinkage | None:
    """The sum of two, which are of one transfer and so of one mode."""
    if one is None or other is None:
        return one or other
    return Shrinkage(
        one.mode,
        one.local_bytes + other.local_bytes,
        one.dense_bytes + other.dense_bytes,
        one.sample_bytes + other.sample_bytes,
        one.sample_bytes_after + other.sample_bytes_after,
        one.lz4_bytes + other.lz4_bytes,
        one.lz4_bytes_after + other.lz4_bytes_after,
    )


def describe(shrinkage: Shrinkage) -> str:
    """For people: how much was sent as it is and why, and how much with LZ4 and to what share of its size."""
    said = []
    if shrinkage.local_bytes:
        said.append(f"{human(shrinkage.local_bytes)} sent as they are (they did not leave the machine)")
    if shrinkage.dense_bytes:
        sample = ""
        if shrinkage.sample_bytes:
            share = round(shrinkage.sample_bytes_after / shrinkage.sample_bytes, 2)
            sample = f" (a sample shrank to {share} of its size)" if share < 1 else " (a sample did not shrink)"
        said.append(f"{human(shrinkage.dense_bytes)} sent as they are{sample}")
    if shrinkage.lz4_bytes:
        said.append(f"{human(shrinkage.lz4_bytes)} with LZ4 (to {shrinkage.lz4_bytes_after / shrinkage.lz4_bytes:.2f})")
    return f"{shrinkage.mode.value}: {', '.join(said) or 'nothing sent'}"
