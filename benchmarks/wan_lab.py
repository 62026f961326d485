"""What connections get out of an emulated WAN, and what the emulation costs: ``python benchmarks/wan_lab.py`` as root.

One thread sends and one receives for each connection. What is printed for each case: the mean rate of the payload,
that of the last half alone, and the router's share of one core.
"""

from __future__ import annotations

import argparse
import socket
import threading
import time

from skyplane_core.testing.lab import Host, Link, Topology, Wan

BUFFER = 256 * 1024
PORT = 5201
SAMPLE_SECONDS = 0.5
TCP_BUFFERS = {"net.ipv4.tcp_rmem": "4096 131072 67108864", "net.ipv4.tcp_wmem": "4096 65536 67108864"}


class Transfer:
    """Connections that send as fast as they may, from host a to host b, until they are stopped."""

    def __init__(self, wan: Wan, connections: int, congestion: str) -> None:
        with wan.inside("b"):
            self._listener = socket.create_server(("", PORT), backlog=connections)
        self.received = [0] * connections
        self._senders = []
        self._threads = []
        for number in range(connections):
            with wan.inside("a"):
                sender = socket.socket()
            sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, congestion.encode())
            sender.connect((wan.topology.host("b").ip, PORT))
            receiver, _address = self._listener.accept()
            self._senders.append(sender)
            self._threads += [
                threading.Thread(target=self._send, args=(sender,)),
                threading.Thread(target=self._receive, args=(receiver, number)),
            ]
        for thread in self._threads:
            thread.start()

    @staticmethod
    def _send(sender: socket.socket) -> None:
        block = bytes(BUFFER)
        try:
            while True:
                sender.sendall(block)
        except OSError:
            return  # stopped

    def _receive(self, receiver: socket.socket, number: int) -> None:
        block = bytearray(BUFFER)
        with receiver:
            while count := receiver.recv_into(block):
                self.received[number] += count

    def stop(self, wan: Wan) -> None:
        """End all of it; a delay of zero spares the wait for what is on its way."""
        wan.change("west", "east", rate_mbit=0, delay_ms=0, loss_percent=0)
        wan.change("east", "west", rate_mbit=0, delay_ms=0)
        for sender in self._senders:
            sender.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for sender in self._senders:
            sender.close()
        self._listener.close()


def measure(arguments: argparse.Namespace, connections: int, congestion: str) -> None:
    link = Link(source="west", target="east", rate_mbit=arguments.rate, delay_ms=arguments.delay)
    back = Link(source="east", target="west", rate_mbit=arguments.rate, delay_ms=arguments.delay)
    topology = Topology(
        hosts=(Host(name="a", ip="10.1.0.1", region="west"), Host(name="b", ip="10.2.0.1", region="east")),
        links=(link, back),
    )
    with Wan(topology, sysctls=TCP_BUFFERS) as wan:
        wan.change("west", "east", loss_percent=arguments.loss)
        transfer = Transfer(wan, connections, congestion)
        began, cpu = time.monotonic(), wan.cpu_seconds
        samples = []
        while time.monotonic() < began + arguments.seconds:
            time.sleep(SAMPLE_SECONDS)
            samples.append((time.monotonic() - began, sum(transfer.received)))
        cpu, counters = wan.cpu_seconds - cpu, wan.counters("west", "east")
        transfer.stop(wan)
    seconds, total = samples[-1]
    half_seconds, half = samples[len(samples) // 2 - 1]
    tail = (total - half) * 8e-6 / (seconds - half_seconds)
    print(
        f"{connections:3} x {congestion:6} {total * 8e-6 / seconds:7.0f} Mbit/s, second half {tail:5.0f}, "
        f"router {100 * cpu / seconds:3.0f} % of a core; {counters.segments} segments, {counters.lost} lost, "
        f"{counters.dropped} dropped",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=1000, help="of the link, Mbit/s (default %(default)s)")
    parser.add_argument("--delay", type=float, default=50, help="one way, ms (default %(default)s)")
    parser.add_argument("--loss", type=float, default=0.1, help="percent of the segments (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=12, help="a case (default %(default)s)")
    parser.add_argument("cases", nargs="*", default=["1:cubic", "8:cubic", "32:cubic", "1:bbr"], metavar="N:CONGESTION")
    arguments = parser.parse_args()
    for case in arguments.cases:
        connections, congestion = case.split(":")
        measure(arguments, int(connections), congestion)


if __name__ == "__main__":
    main()
