"""A server of listings that nobody stores: millions of generated keys, for scale tests."""

from skyplane_core.testing.listserver.keyspace import KeySpace
from skyplane_core.testing.listserver.process import ListServer

__all__ = ["KeySpace", "ListServer"]
