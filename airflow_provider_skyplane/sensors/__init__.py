"""Sensors on the engine."""
