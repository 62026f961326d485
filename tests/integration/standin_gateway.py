"""A gateway with real control process, real forks and real sockets, whose agent and data process do nothing but obey.

Run as ``python -I standin_gateway.py``, not ``python -I -m gateway``. The transfer id of a ``transfer.put`` says
how the agent is to behave.
"""

import os
import sys
import threading
import time

from gateway import daemon
from gateway.ipc import Channel
from gateway.messages import Call, Forgotten, OpenTransfer, Renew, Reply, Report
from skyplane_core.errors import TransferNotFound
from skyplane_core.spec import Progress, TransferState


def data(bootstrap, agent, wire, counters):
    channel = Channel(agent, OpenTransfer)
    while channel.receive() is not None:
        pass


def burn():
    while True:
        sum(i * i for i in range(10000))


def agent(bootstrap, control, data, counters):
    channel = Channel(control, Call)
    while (call := channel.receive()) is not None:
        if call.method == "transfer.start" or call.transfer_id == "unknown":
            error = TransferNotFound("no such transfer", next_step="Put it first.").record()
            channel.send(Reply(call.call_id, error=error))
            continue
        if call.method == "transfer.delete":
            channel.send(Forgotten(call.transfer_id))
        elif call.transfer_id == "die":
            os._exit(7)
        elif call.transfer_id == "mute":
            continue
        elif call.transfer_id == "burn":
            for _ in range(4):
                threading.Thread(target=burn, daemon=True).start()
        elif call.transfer_id == "renew":
            for _ in range(8):
                time.sleep(0.25)
                channel.send(Renew())
        elif call.transfer_id:
            channel.send(Report(Progress(call.transfer_id, TransferState.RUNNING, bytes_acked=len(call.body))))
        channel.send(Reply(call.call_id, b"null"))


if __name__ == "__main__":
    sys.exit(daemon.main(daemon.Roles(data, agent)))
