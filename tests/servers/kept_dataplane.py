"""One gateway for many operators' transfers, where a test is about what is copied and not about how gateways live.

Starting one takes a third of a second, a small transfer a tenth of that.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator

import pytest

from skyplane_core.client import ClientConfig, Dataplane, SkyplaneClient


@contextlib.contextmanager
def kept_dataplane() -> Iterator[None]:
    """Every client's dataplane is the same one, which only the end of the block deprovisions."""
    kept = Dataplane(ClientConfig(gateways=1, control_secret=secrets.token_bytes(32)))
    with pytest.MonkeyPatch.context() as patch, kept.auto_deprovision():
        kept.provision()
        with patch.context() as here:
            here.setattr(kept, "deprovision", lambda: None)
            here.setattr(SkyplaneClient, "dataplane", lambda _client: kept)
            yield
