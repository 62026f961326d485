"""Real daemon processes and real mutual TLS; agent and data process are the stand-ins of standin_gateway.py."""

import asyncio
import base64
import itertools
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import msgspec
import psutil
import pytest

from skyplane_core import control_tls
from skyplane_core.control import PeerAddress
from skyplane_core.control_calls import MAX_BODY_BYTES
from skyplane_core.control_tls import connect, connect_async
from skyplane_core.errors import (
    ErrorRecord,
    GatewayRefused,
    GatewayUnreachable,
    ProvisionFailed,
    TransferNotFound,
    UsageError,
)
from skyplane_core.identity import DataplaneIdentity, new_dataplane_id
from skyplane_core.model import Credentials, GatewayTransfer, StoreConfig, TransferKeys
from skyplane_core.provision import local, local_process
from skyplane_core.provision.base import DataplaneReference
from skyplane_core.provision.bootstrap import MIB, Bootstrap
from skyplane_core.provision.local import LocalProvisioner
from skyplane_core.spec import TransferState
from skyplane_core.tls import client_context

SECRET = b"canary-control-secret-of-32-bytes-or-more"
STANDIN = (sys.executable, "-I", str(Path(__file__).with_name("standin_gateway.py")))
REAL = local_process.COMMAND


class Gateways:
    """Gateways of one dataplane, and what a test asks about them."""

    def __init__(self, log_dir: Path, command=STANDIN, **settings) -> None:
        self.identity = DataplaneIdentity(SECRET, new_dataplane_id())
        settings = {"pool_bytes": 16 * MIB, "expiry_seconds": 60.0, **settings}
        self.provisioner = LocalProvisioner(self.identity, log_dir=log_dir, command=command, **settings)
        self.addresses = ()

    def start(self, count: int = 1):
        self.addresses = self.provisioner.start(count)
        return self.addresses

    def channel(self, number: int = 0, identity=None, gateway_id=None):
        address = self.addresses[number]
        return connect(identity or self.identity, gateway_id or address.gateway_id, address.host, address.control_port)

    def log(self, number: int = 0) -> list[dict]:
        text = self.provisioner.log_path(f"gateway-{number}").read_text()
        return [json.loads(line) for line in text.splitlines()]

    def url(self, path: str) -> str:
        return f"https://{self.addresses[0].host}:{self.addresses[0].control_port}{path}"

    def http(self, identity=None) -> httpx.Client:
        context = client_context(self.identity.ca_pem, (identity or self.identity).client_certificate())
        return httpx.Client(verify=context, trust_env=False)

    @property
    def names(self) -> dict:
        return {"sni_hostname": self.identity.server_name("gateway-0")}


@pytest.fixture
def make(tmp_path):
    made = []

    def build(**settings) -> Gateways:
        made.append(Gateways(tmp_path / "logs", **settings))
        return made[-1]

    yield build
    for gateways in made:
        gateways.provisioner.stop(gateways.addresses)


@pytest.fixture
def gateway(make):
    gateways = make()
    gateways.start()
    return gateways


def gone(*pids: int, seconds: float = 8.0) -> bool:
    """Whether these processes end in time; a zombie has ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for process in list(local_process._children.values()):
            process.poll()
        if not any(local_process.start_time(pid) for pid in pids):
            return True
        time.sleep(0.02)
    return False


def secret_transfer(transfer_id: str = "t1") -> GatewayTransfer:
    credentials = Credentials("canary-access", "canary-secret-key", "canary-session")
    return GatewayTransfer(
        transfer_id, TransferKeys(b"canary-transfer-key-of-32-bytes!"), StoreConfig("s3", "b", credentials=credentials)
    )


# --- the API ---------------------------------------------------------------------------------------------------------


def test_calls_reach_the_agent_and_reports_come_back(gateway):
    with gateway.channel() as channel:
        channel.set_peers((PeerAddress("gateway-1", "127.0.0.1", 1),))
        with pytest.raises(TransferNotFound):
            channel.progress("t1")
        channel.put_transfer(secret_transfer())
        assert channel.progress("t1").bytes_acked > 0
        status = channel.status()
        assert status.transfers == {"t1": TransferState.RUNNING}
        assert set(status.pids) == {"control", "data", "agent"}
        assert 0 < status.expires_in_seconds <= 60
        assert status.dataplane_id == gateway.identity.dataplane_id
        channel.cancel("t1")
        channel.delete("t1")
        with pytest.raises(TransferNotFound):
            channel.progress("t1")
        with pytest.raises(TransferNotFound, match="Put it first"):
            channel.delete("unknown")


def test_the_async_twin_calls_concurrently(gateway):
    address = gateway.addresses[0]

    async def run():
        async with connect_async(gateway.identity, "gateway-0", address.host, address.control_port) as channel:
            await channel.put_transfer(secret_transfer())
            answers = await asyncio.gather(*(channel.progress("t1") for _ in range(8)), channel.status())
            with pytest.raises(TransferNotFound):
                await channel.progress("t2")
            return answers

    assert len(asyncio.run(run())) == 9


def test_polls_are_no_lines_in_the_log_of_who_polls(gateway, caplog):
    caplog.set_level(logging.INFO, "httpx")
    address = gateway.addresses[0]

    async def poll():
        async with connect_async(gateway.identity, "gateway-0", address.host, address.control_port) as channel:
            await channel.status()

    asyncio.run(poll())
    with connect(gateway.identity, "gateway-0", address.host, address.control_port) as channel:
        channel.status()
    assert caplog.messages == []
    with httpx.Client(transport=httpx.MockTransport(lambda _request: httpx.Response(204)), trust_env=False) as others:
        others.get("http://elsewhere")
    assert len(caplog.messages) == 1


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/transfers/a%2Fb", 404),
        ("GET", f"/transfers/{'x' * 129}", 404),
        ("HEAD", "/status", 405),
        ("POST", "/status", 405),
        ("GET", "/transfers/nobody", 404),
    ],
)
def test_every_refusal_is_an_error_record(gateway, method, path, status):
    with gateway.http() as client:
        answer = client.request(method, gateway.url(path), extensions=gateway.names)
    assert answer.status_code == status
    if method != "HEAD":
        assert msgspec.json.decode(answer.content, type=ErrorRecord).what


def test_a_body_is_bounded(gateway):
    with gateway.http() as client:
        url = gateway.url("/transfers/t1")
        answer = client.put(url, content=bytes(MAX_BODY_BYTES + 1), extensions=gateway.names)
        assert answer.status_code == 413
        answer = client.put(url, content=bytes(MAX_BODY_BYTES - 1), extensions=gateway.names)
        assert answer.status_code == 200


def test_an_agent_that_does_not_answer_holds_up_nobody(gateway):
    with gateway.http() as client, gateway.channel() as channel:
        with pytest.raises(httpx.ReadTimeout):
            client.put(gateway.url("/transfers/mute"), content=b"{}", extensions=gateway.names, timeout=0.3)
        assert channel.status().transfers == {}


# --- who may call ----------------------------------------------------------------------------------------------------


def test_without_a_certificate_there_is_no_conversation(gateway):
    context = client_context(gateway.identity.ca_pem, gateway.identity.client_certificate())
    bare = type(context)(context.protocol)
    bare.load_verify_locations(cadata=gateway.identity.ca_pem)
    with httpx.Client(verify=bare, trust_env=False) as client, pytest.raises(httpx.TransportError):
        client.get(gateway.url("/status"), extensions=gateway.names)


def test_plain_http_gets_no_answer(gateway):
    with httpx.Client(trust_env=False) as client, pytest.raises(httpx.TransportError):
        client.get(gateway.url("/status").replace("https", "http"))


def test_a_foreign_certificate_is_refused(gateway):
    foreign = DataplaneIdentity(SECRET[::-1], gateway.identity.dataplane_id)
    with gateway.http(foreign) as client, pytest.raises(httpx.TransportError):
        client.get(gateway.url("/status"), extensions=gateway.names)
    with gateway.channel(identity=foreign) as channel, pytest.raises(GatewayRefused, match="control secret"):
        channel.status()


def test_another_gateways_name_is_refused(gateway):
    with gateway.channel(gateway_id="gateway-1") as channel, pytest.raises(GatewayRefused, match="TLS handshake"):
        channel.status()


def test_nobody_there_is_unreachable(gateway, free_port):
    with (
        connect(gateway.identity, "gateway-0", "127.0.0.1", free_port()) as channel,
        pytest.raises(GatewayUnreachable, match="gateway-0"),
    ):
        channel.status()


# --- life and death --------------------------------------------------------------------------------------------------


def test_it_ends_itself_when_nothing_progresses(make):
    gateways = make(expiry_seconds=0.6)
    started = time.monotonic()
    (address,) = gateways.start()
    with gateways.channel() as channel:
        pids = channel.status().pids.values()
        assert gone(*pids)
        assert time.monotonic() - started < 5
        with pytest.raises(GatewayUnreachable):
            channel.status()
    assert "expired" in [line.get("fields", {}).get("reason") for line in gateways.log()]
    gateways.provisioner.stop([address])


def test_only_the_agent_renews_the_expiry(make):
    gateways = make(expiry_seconds=1.0)
    gateways.start()
    with gateways.channel() as channel:
        started = time.monotonic()
        channel.put_transfer(GatewayTransfer("renew"))
        assert time.monotonic() - started > 1.5
        renewed = channel.status().expires_in_seconds
        time.sleep(0.2)
        assert channel.status().expires_in_seconds < renewed


def test_shutdown_answers_and_ends_everything(gateway):
    with gateway.channel() as channel:
        pids = channel.status().pids.values()
        channel.shutdown()
    assert gone(*pids)


def test_sigterm_ends_everything_in_order(gateway):
    with gateway.channel() as channel:
        pids = channel.status().pids
    process = local_process._children[pids["control"]]
    os.kill(pids["control"], signal.SIGTERM)
    assert gone(*pids.values())
    assert process.wait(1) == 0


def test_a_killed_control_process_takes_the_others_with_it(gateway):
    with gateway.channel() as channel:
        pids = channel.status().pids
    os.kill(pids["control"], signal.SIGKILL)
    assert gone(*pids.values(), seconds=2)


@pytest.mark.parametrize("victim", ["data", "agent"])
def test_a_killed_child_ends_the_gateway(gateway, victim):
    with gateway.channel() as channel:
        pids = channel.status().pids
    process = local_process._children[pids["control"]]
    os.kill(pids[victim], signal.SIGKILL)
    assert gone(*pids.values())
    assert process.wait(1) == 1
    ends = [line["fields"] for line in gateway.log() if line["event"] == "gateway ends"]
    assert ends == [{"reason": "a process died", "died": victim, "status": -9}]


def test_a_call_during_which_the_agent_dies_fails_at_once(gateway):
    started = time.monotonic()
    with gateway.channel() as channel, pytest.raises(GatewayUnreachable):
        channel.put_transfer(GatewayTransfer("die"))
    assert time.monotonic() - started < 5
    assert gone(gateway.addresses[0].pid)
    assert {"reason": "a process died", "died": "agent", "status": 7} in [line.get("fields") for line in gateway.log()]


# --- what can be seen from outside -----------------------------------------------------------------------------------


def test_nothing_secret_can_be_seen(make, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-of-the-environment")
    monkeypatch.setenv("HTTPS_PROXY", "http://user:canary-of-the-proxy@proxy")
    monkeypatch.setattr(DataplaneIdentity, "wire_secret", lambda _self: b"canary-wire-secret-of-32-bytes!!")
    gateways = make()
    gateways.start()
    with gateways.channel() as channel:
        channel.put_transfer(secret_transfer())
        with pytest.raises(TransferNotFound):
            channel.put_transfer(secret_transfer("unknown"))
        pids = channel.status().pids.values()
        seen = "".join(
            Path(f"/proc/{pid}/{name}").read_bytes().decode(errors="replace")
            for pid in pids
            for name in ("cmdline", "environ", "comm")
            if os.access(f"/proc/{pid}/{name}", os.R_OK)
        )
    seen += gateways.provisioner.log_path("gateway-0").read_text()
    seen += msgspec.json.encode(gateways.provisioner.reference(gateways.addresses)).decode()
    encoded = [base64.b64encode(b"canary-wire-secret-of-32-bytes!!").decode()[:-4], "PRIVATE KEY"]
    assert "skyplane" in seen
    for secret in ("canary", *encoded):
        assert secret not in seen


def test_the_processes_are_detached_and_leave_no_core(gateway):
    with gateway.channel() as channel:
        pids = channel.status().pids
    assert {os.getsid(pid) for pid in pids.values()} == {pids["control"]}
    assert os.getsid(0) != pids["control"]
    for pid in pids.values():
        limits = Path(f"/proc/{pid}/limits").read_text()
        (core,) = [line.split() for line in limits.splitlines() if line.startswith("Max core")]
        assert core[4:6] == ["0", "0"]
    assert Path(f"/proc/{pids['control']}/cwd").readlink() == Path("/")
    assert gateway.provisioner.log_path("gateway-0").stat().st_mode & 0o777 == 0o600


def test_a_reference_finds_the_dataplane_again(gateway):
    reference = gateway.provisioner.reference(gateway.addresses)
    again = msgspec.json.decode(msgspec.json.encode(reference), type=DataplaneReference)
    identity = DataplaneIdentity(SECRET, again.dataplane_id)
    assert identity.ca_fingerprint() == again.ca_fingerprint
    address = again.gateways[0]
    with connect(identity, address.gateway_id, address.host, address.control_port) as channel:
        assert channel.status().gateway_id == "gateway-0"
    LocalProvisioner(identity).stop(again.gateways)
    assert gone(address.pid, seconds=0.5)
    LocalProvisioner(identity).stop(again.gateways)


# --- starting and stopping -------------------------------------------------------------------------------------------


def test_two_gateways_start_at_the_same_time(make):
    took = []
    for _ in range(3):  # the best of three: others use this machine, too
        gateways = make()
        started = time.monotonic()
        assert [address.gateway_id for address in gateways.start(2)] == ["gateway-0", "gateway-1"]
        took.append(time.monotonic() - started)
        if took[-1] < 1.0:
            break
    assert min(took) < 1.0
    with gateways.channel(1) as channel:
        assert channel.status().gateway_id == "gateway-1"


def test_one_that_fails_stops_the_others(make, tmp_path):
    script = tmp_path / "second_fails.py"
    script.write_text(
        "import sys, json\n"
        "text = sys.stdin.read()\n"
        "if json.loads(text)['gateway_id'] == 'gateway-1':\n"
        "    sys.exit('gateway: the disk is on fire')\n"
        "import time; time.sleep(600)\n"
    )
    before = {process.pid for process in psutil.Process().children()}
    with pytest.raises(ProvisionFailed, match=r"gateway-1.*exit status 1\n.*the disk is on fire"):
        make(command=(sys.executable, "-I", str(script))).start(2)
    assert {process.pid for process in psutil.Process().children()} == before


def test_one_that_is_silent_fails_in_time(make):
    command = (sys.executable, "-I", "-c", "import time; time.sleep(600)")
    with pytest.raises(ProvisionFailed, match="did not answer within"):
        make(command=command, start_seconds=0.3).start()


def test_a_missing_library_is_named_with_its_remedy(make):
    program = "import sys; sys.modules['aiohttp'] = None\nfrom gateway import birth, daemon\n"
    program += "birth._REQUIRED = ('not_there', 'cryptography')\nsys.exit(daemon.main())"
    with pytest.raises(ProvisionFailed, match=r"not installed: not_there.*pip install .*\[gateway\]") as refused:
        make(command=(sys.executable, "-I", "-c", program)).start()
    assert str(refused.value).count("pip install") == 1


def test_a_command_that_is_not_there_is_a_failure_to_provision(make):
    with pytest.raises(ProvisionFailed, match="cannot be started"):
        make(command=("/nowhere/python",)).start()


def test_a_gateway_that_hangs_is_killed(gateway, monkeypatch):
    monkeypatch.setattr(local, "STOP_SECONDS", 0.3)
    monkeypatch.setattr(control_tls, "TIMEOUT", httpx.Timeout(0.3))
    with gateway.channel() as channel:
        pids = channel.status().pids
    os.kill(pids["control"], signal.SIGSTOP)
    gateway.provisioner.stop(gateway.addresses)
    assert gone(*pids.values(), seconds=2)


def test_a_process_that_was_given_the_same_pid_is_left_alone(gateway):
    gateways = gateway
    (address,) = gateways.addresses
    with gateways.channel() as channel:
        pids = channel.status().pids
    older = msgspec.structs.replace(address, pid_start_time=address.pid_start_time - 1)
    gateways.provisioner.stop([older])
    local_process.kill(older.pid, older.pid_start_time)
    with gateways.channel() as channel:
        assert channel.status().pids == pids
    local_process.kill(address.pid, address.pid_start_time)
    assert gone(*pids.values())


def test_a_foreign_identity_does_not_stop_a_gateway(gateway):
    foreign = DataplaneIdentity(SECRET[::-1], gateway.identity.dataplane_id)
    with pytest.raises(GatewayRefused):
        LocalProvisioner(foreign).stop(gateway.addresses)
    with gateway.channel() as channel:
        channel.status()


# --- what it is told at birth ----------------------------------------------------------------------------------------


def bootstrap(**changes) -> bytes:
    identity = DataplaneIdentity(SECRET, new_dataplane_id())
    pair = identity.gateway_certificate("gw")
    values = {
        "dataplane_id": identity.dataplane_id,
        "gateway_id": "gw",
        "ca_pem": identity.ca_pem,
        "certificate_pem": pair.certificate_pem,
        "private_key_pem": pair.private_key_pem,
        "wire_secret": identity.wire_secret(),
        "expiry_seconds": 0.5,
        **changes,
    }
    return msgspec.json.encode(Bootstrap(**values))


def run(content: bytes) -> subprocess.CompletedProcess:
    return subprocess.run(STANDIN, input=content, capture_output=True, timeout=30, check=False)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"canary",
        b"{}",
        b'{"dataplane_id": 5}',
        b"x" * (1024 * 1024 + 1),
        bootstrap(wire_secret=b"canary"),
        bootstrap(private_key_pem="canary"),
        bootstrap(ca_pem="canary"),
        bootstrap(gateway_id="Canary/../"),
        bootstrap(control_port=70000),
        bootstrap(expiry_seconds=-1.0),
        bootstrap(log_path="relative-canary"),
    ],
    # Certificates would be part of the names of tests.
    ids=itertools.count(),
)
def test_bad_input_is_refused_in_one_line(content):
    ended = run(content)
    assert ended.returncode == 2
    assert ended.stdout == b""
    assert ended.stderr.startswith(b"gateway: ")
    assert ended.stderr.count(b"\n") == 1
    assert b"anary" not in ended.stderr


def test_what_cannot_be_had_is_refused_in_one_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = run(bootstrap(wire_port=taken.getsockname()[1]))
    assert ended.returncode == 3
    assert b"in use" in ended.stderr
    ended = run(bootstrap(log_path=str(tmp_path / "no" / "log")))
    assert ended.returncode == 3
    assert b"cannot write the log" in ended.stderr


def test_a_log_file_is_its_owners_alone(tmp_path):
    log = tmp_path / "log"
    log.touch(mode=0o644)
    ended = run(bootstrap(log_path=str(log)))
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert msgspec.json.decode(ended.stdout)["gateway_id"] == "gw"
    assert log.stat().st_mode & 0o777 == 0o600
    assert all(json.loads(line)["gateway"] == "gw" for line in log.read_text().splitlines())


# --- under load, and the real thing ----------------------------------------------------------------------------------


def test_status_is_quick_while_the_agent_burns_the_cpu(gateway):
    with gateway.channel() as channel:
        channel.put_transfer(GatewayTransfer("burn"))
        took = []
        for _ in range(200):
            started = time.perf_counter()
            channel.status()
            took.append(time.perf_counter() - started)
            time.sleep(0.005)
    assert sorted(took)[197] < 0.2


def test_the_real_gateway_starts_answers_and_ends(make):
    gateways = make(command=REAL)
    gateways.start(2)
    pids = []
    for number in range(2):
        with gateways.channel(number) as channel:
            pids += channel.status().pids.values()
            with pytest.raises(TransferNotFound):
                channel.cancel("nobody")
    gateways.provisioner.stop(gateways.addresses)
    assert gone(*pids, seconds=0.5)
    for number in range(2):
        assert [line["event"] for line in gateways.log(number) if line["level"] in {"error", "critical"}] == []


def test_a_count_of_gateways_has_a_sense(make):
    with pytest.raises(UsageError):
        make().start(0)
