"""A TCP proxy on loopback that cuts, stalls, tears and slows connections at an exact byte, for tests.

::

    from skyplane_core.testing.faultproxy import TO_SERVER, FaultProxy, ProxyFault

    with FaultProxy(("127.0.0.1", port)) as proxy:
        proxy.add(ProxyFault("cut", TO_SERVER, at=1_000_000, connections=(2,)))
        client.connect(proxy.address)

See docs/testing.md.
"""

from skyplane_core.testing.faultproxy.faults import ACTIONS, TO_CLIENT, TO_SERVER, ProxyFault
from skyplane_core.testing.faultproxy.proxy import FaultProxy

__all__ = ["ACTIONS", "TO_CLIENT", "TO_SERVER", "FaultProxy", "ProxyFault"]
