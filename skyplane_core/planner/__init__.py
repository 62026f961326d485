"""From a transfer's spec to a plan, and from an object's size to its parts. Pure functions."""
