"""Stores with secrets, and gateways between them, for tests of what an outsider can do."""

from __future__ import annotations

from tests.integration.engine.conftest import client, destination, gcs, s3, source

__all__ = ["client", "destination", "gcs", "s3", "source"]
