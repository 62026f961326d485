"""The sensors, under the names by which DAGs import them."""

from __future__ import annotations

from airflow_provider_skyplane.sensors.sync import SkyplaneSyncSensor
from airflow_provider_skyplane.sensors.transfer import SkyplaneTransferSensor

__all__ = ["SkyplaneSyncSensor", "SkyplaneTransferSensor"]
