"""A WAN and machines on it, on one Linux machine: for tests of whatever spans regions.

::

    from skyplane_core.testing.lab import Host, Link, Topology, Wan, both_ways

    topology = Topology(
        hosts=(Host(name="a", ip="10.1.0.1", region="west"), Host(name="b", ip="10.2.0.1", region="east")),
        links=both_ways(Link(source="west", target="east", rate_mbit=1000, delay_ms=50, loss_percent=0.1)),
    )
    with Wan(topology, congestion="cubic") as wan:
        subprocess.run(wan.command("a", ["ping", "-c1", "10.2.0.1"]))
        wan.cut("a", "b")

Needs root, iproute2, and for machines with a login openssh-server. See docs/testing.md.
"""

from skyplane_core.testing.lab.emulation import Counters
from skyplane_core.testing.lab.errors import LabError
from skyplane_core.testing.lab.topology import Host, Link, Topology, both_ways
from skyplane_core.testing.lab.vm import FakeVm, VmProcess
from skyplane_core.testing.lab.wan import Wan

__all__ = ["Counters", "FakeVm", "Host", "LabError", "Link", "Topology", "VmProcess", "Wan", "both_ways"]
