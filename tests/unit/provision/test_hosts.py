"""Hosts as users write them: every mistake is told by the name of the field, before anything is connected."""

from __future__ import annotations

from pathlib import Path

import pytest

from skyplane_core.client import ClientConfig, SkyplaneClient
from skyplane_core.errors import UsageError
from skyplane_core.provision.hosts import Control, Role, SshHost, in_order, parse_host, read_hosts


@pytest.mark.parametrize(
    ("text", "user", "address", "port", "target"),
    [
        ("me@1.2.3.4", "me", "1.2.3.4", 22, "me@1.2.3.4:22"),
        ("me@1.2.3.4:2222", "me", "1.2.3.4", 2222, "me@1.2.3.4:2222"),
        ("host.example.org", "", "host.example.org", 22, "host.example.org:22"),
        ("me@[2001:db8::1]:23", "me", "2001:db8::1", 23, "me@[2001:db8::1]:23"),
        ("a@b@host", "a@b", "host", 22, "a@b@host:22"),
    ],
)
def test_a_host_in_one_word(text: str, user: str, address: str, port: int, target: str) -> None:
    host = parse_host(text)
    assert (host.user, host.address, host.port, host.target) == (user, address, port, target)
    assert parse_host(host.target) == host


@pytest.mark.parametrize(
    "text", ["", "@host", "me@", "host:0", "host:99999", "host:x", "me@2001:db8::1", "-oProxy=x", "a b"]
)
def test_what_is_no_host(text: str) -> None:
    with pytest.raises(UsageError, match="Write user@address"):
        parse_host(text)


TOML = """
[defaults]
user = "ubuntu"
key = "~/.ssh/transfer"

[[hosts]]
address = "192.0.2.1"
role = "writer"
control = "ssh"

[[hosts]]
address = "192.0.2.2"
name = "reader in the west"
port = 2222
user = "me"
role = "reader"
region = "us-west-2"
known_hosts = "known"
ports = "40000-40010"
"""


def test_a_file_of_hosts(tmp_path: Path) -> None:
    file = tmp_path / "hosts.toml"
    file.write_text(TOML)
    writer, reader = read_hosts(file)
    assert writer == SshHost(
        "192.0.2.1",
        user="ubuntu",
        key=str(Path.home() / ".ssh" / "transfer"),
        role=Role.WRITER,
        control=Control.SSH,
    )
    assert (reader.user, reader.label, reader.known_hosts) == ("me", "reader in the west", str(tmp_path / "known"))
    assert reader.port_range == (40000, 40010)
    assert in_order([writer, reader]) == (reader, writer)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[[hosts]]\nuser = 'me'", "host 1.*missing required field `address`"),
        ("[[hosts]]\naddress = 'a'\n[[hosts]]\naddress = 'b'\nprot = 1", "host 2.*unknown field `prot`"),
        ("[[hosts]]\naddress = 'a'\nport = '22'", "host 1.*Expected `int`.*port"),
        ("[[hosts]]\naddress = 'a'\nport = 0", "port of host 'a' is not usable: 1 to 65535"),
        ("[[hosts]]\naddress = 'a'\nrole = 'boss'", "Invalid enum value 'boss'"),
        ("[[hosts]]\naddress = 'a'\nhost_key = 'ab:cd'", "host_key of host 'a'.*ssh-keygen -l"),
        ("[[hosts]]\naddress = 'a'\nbind = 'eth0'", "bind of host 'a'.*an IP address of the host"),
        ("[[hosts]]\naddress = 'a'\nports = '1'", "ports of host 'a'.*such as 40000-40010"),
        ("[[hosts]]\naddress = 'a'\ndirectory = 'x'", "directory of host 'a'.*absolute"),
        ("[[hosts]]\naddress = 'a'\nkey = 'x'\nprivate_key = 'y'", "key of host 'a'.*not both"),
        ("hosts = 1", "Expected `array`"),
        ("[defaults]", "missing required field `hosts`"),
        ("[[hosts", "hosts.toml"),
    ],
)
def test_a_wrong_file_is_told_by_field(tmp_path: Path, content: str, told: str) -> None:
    file = tmp_path / "hosts.toml"
    file.write_text(content)
    with pytest.raises(UsageError, match=told) as error:
        read_hosts(file)
    assert str(file) in str(error.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_hosts(tmp_path / "nowhere.toml")


@pytest.mark.parametrize(
    ("hosts", "told"),
    [
        ([SshHost("a"), SshHost("a")], "given twice"),
        ([SshHost("a", role=Role.READER)], "none of the hosts may be a writer"),
        ([SshHost("a", role=Role.WRITER), SshHost("b", role=Role.WRITER)], "none of the hosts may be a reader"),
        ([SshHost("a"), SshHost("b", role=Role.RELAY)], "none of the hosts may be a writer"),
        ([SshHost("a", role=Role.READER), SshHost("b", role=Role.WRITER), SshHost("c")], "open what a host does"),
        ([SshHost("a"), SshHost("b"), SshHost("c"), SshHost("d")], "4 hosts and no roles"),
    ],
)
def test_hosts_that_make_no_dataplane(hosts: list[SshHost], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        in_order(hosts)


def test_several_hosts_may_have_a_role_and_relays_are_planned() -> None:
    roles = {"w1": Role.WRITER, "l": Role.RELAY, "r1": Role.READER, "w2": Role.WRITER, "r2": Role.READER}
    hosts = tuple(SshHost(name, role=role) for name, role in roles.items())
    assert [host.address for host in in_order(hosts)] == ["r1", "r2", "l", "w1", "w2"]
    client = SkyplaneClient(ClientConfig(hosts=hosts, control_secret=bytes(32)))
    plan = client.dataplane().plan(client.prepare("s3://a/x", "s3://b/y"))
    assert (plan.kind, len(plan.routes)) == ("relayed", 4)
    assert [site.role for site in plan.gateways] == [Role.READER] * 2 + [Role.RELAY] + [Role.WRITER] * 2


def test_a_host_that_cannot_be_dialled_is_not_the_head_and_is_planned_as_what_it_is() -> None:
    hosts = (
        SshHost("hidden", role=Role.READER, dials_out=True),
        SshHost("open", role=Role.READER),
        SshHost("cellar", role=Role.WRITER, dials_out=True),
        SshHost("w", role=Role.WRITER),
    )
    assert [host.address for host in in_order(hosts)] == ["open", "hidden", "w", "cellar"]
    client = SkyplaneClient(ClientConfig(hosts=hosts, control_secret=bytes(32)))
    plan = client.dataplane().plan(client.prepare("s3://a/x", "s3://b/y"))
    assert [site.dials_out for site in plan.gateways] == [False, True, False, True]
    assert [(route.reader, route.path) for route in plan.routes] == [
        ("gateway-0", ("gateway-2",)),
        ("gateway-0", ("gateway-3",)),
        ("gateway-1", ("gateway-2",)),
    ]
    with pytest.raises(ValueError, match="give no advertise"):
        SshHost("cellar", dials_out=True, advertise="10.0.0.9")


def test_a_plan_names_the_hosts_and_knows_no_price() -> None:
    hosts = (SshHost("192.0.2.1", role=Role.WRITER), SshHost("192.0.2.2", region="west"))
    client = SkyplaneClient(ClientConfig(hosts=hosts, control_secret=bytes(32)))
    prepared = client.prepare("s3://a/x", "s3://b/y")
    plan = client.dataplane().plan(prepared)
    assert [(site.provider, site.region, site.loopback) for site in plan.gateways] == [
        ("ssh", "west", False),
        ("ssh", "192.0.2.1:22", False),
    ]
    assert plan.price.usd is None
