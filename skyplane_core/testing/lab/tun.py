"""A TUN device in a network namespace, whose packets this process reads and writes.

Constants: linux/if_tun.h.
"""

from __future__ import annotations

import fcntl
import os
import struct

from skyplane_core.testing.lab import netns, segments

DEVICE = "wan0"
TUNSETIFF, TUNSETOFFLOAD, TUNSETVNETHDRSZ = 0x400454CA, 0x400454D0, 0x400454D8
IFF_TUN, IFF_NO_PI, IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
TUN_F_CSUM, TUN_F_TSO4 = 0x01, 0x02
MAX_PACKET = segments.VIRTIO + 65535


def create(namespace: str) -> int:
    """Make :data:`DEVICE` there and return its descriptor, non-blocking. It is gone when that is closed."""
    with netns.entered(namespace):
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR
            fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), flags))
            fcntl.ioctl(descriptor, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4)
            fcntl.ioctl(descriptor, TUNSETVNETHDRSZ, struct.pack("i", segments.VIRTIO))
        except BaseException:
            os.close(descriptor)
            raise
    return descriptor


def configure(namespace: str, ip: str, mtu: int, peers: list[str]) -> None:
    """Give the device its address and a route to each peer; there is no default route."""
    lines = [
        f"link set {DEVICE} mtu {mtu} txqueuelen 20000",
        f"addr add {ip}/32 dev {DEVICE}",
        f"link set {DEVICE} up",
        *(f"route add {peer}/32 dev {DEVICE} src {ip}" for peer in peers),
    ]
    netns.run(["ip", "-netns", namespace, "-batch", "-"], "\n".join(lines) + "\n")
