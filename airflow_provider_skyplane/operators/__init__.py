"""Operators on the engine."""
