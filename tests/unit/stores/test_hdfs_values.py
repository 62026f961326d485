"""HDFS without a cluster: what its words mean, where NameNodes are, and what the environment says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from skyplane_core.errors import (
    ObjectNotFound,
    PermissionDenied,
    StoreError,
    StoreRejected,
    StoreUnavailable,
    Unauthenticated,
    UsageError,
)
from skyplane_core.model import Hadoop, StoreConfig
from skyplane_core.stores.hdfs_client import namenodes
from skyplane_core.stores.hdfs_errors import mapped
from skyplane_core.stores.hdfs_resolve import environment, settings


class PanicException(BaseException):
    pass


def refusal(java: str, message: str = "what it says") -> RuntimeError:
    return RuntimeError(f'RPCError("{java}", "{message}\\n\\tat org.apache.hadoop.Some.method(Some.java:1)")')


@pytest.mark.parametrize(
    ("raised", "kind", "said"),
    [
        (FileNotFoundError("/a\n\tat org.x"), ObjectNotFound, "does not exist"),
        (FileExistsError("/a"), StoreRejected, "both a file 'a' and files below"),
        (refusal("org.apache.hadoop.security.AccessControlException"), PermissionDenied, "HADOOP_USER_NAME"),
        (refusal("org.apache.hadoop.ipc.StandbyException"), StoreUnavailable, "nameservice"),
        (refusal("org.apache.hadoop.hdfs.server.namenode.SafeModeException"), StoreUnavailable, "safe mode"),
        (refusal("org.apache.hadoop.ipc.RetriableException"), StoreUnavailable, "NameNode"),
        (refusal("org.apache.hadoop.hdfs.protocol.DSQuotaExceededException"), StoreRejected, "quota"),
        (refusal("org.apache.hadoop.hdfs.protocol.NSQuotaExceededException"), StoreRejected, "quota"),
        (refusal("org.apache.hadoop.FSLimitException$PathComponentTooLongException"), StoreRejected, "name"),
        (refusal("org.apache.hadoop.fs.InvalidPathException"), StoreRejected, "name"),
        (refusal("java.io.IOException", "/a could only be replicated to 0 nodes"), StoreUnavailable, "space"),
        (refusal("java.io.IOException", "something else"), StoreRejected, "HDFS refuses"),
        (refusal("org.apache.hadoop.hdfs.server.namenode.LeaseExpiredException"), StoreUnavailable, "somebody else"),
        (RuntimeError('DataTransferError("All DataNodes failed: [...]")'), StoreUnavailable, "docs/hdfs.md"),
        (RuntimeError('SASLError("No valid token")'), Unauthenticated, "kinit"),
        (NotImplementedError("File encryption"), StoreRejected, "File encryption"),
        (ConnectionRefusedError("Connection refused (os error 111)"), StoreUnavailable, "Check the NameNode's address"),
        (PanicException("Cannot read past end of the file"), StoreUnavailable, "client failed"),
    ],
)  # fmt: skip
def test_what_is_said_becomes_an_error_that_says_what_where_why_and_what_next(
    raised: BaseException, kind: type[StoreError], said: str
) -> None:
    with pytest.raises(StoreError) as caught, mapped("hdfs://nn/a", lambda: "and more"):
        raise raised
    assert type(caught.value) is kind
    assert said in str(caught.value)
    assert caught.value.where == "hdfs://nn/a"
    assert "\n" not in str(caught.value)
    assert "org.apache" not in caught.value.why


def test_what_is_not_the_clients_passes() -> None:
    for error in (UsageError("ours"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught, mapped("hdfs://nn/a"):
            raise error
        assert caught.value is error


def config(authority: str, properties: dict[str, str] | None = None) -> StoreConfig:
    return StoreConfig("hdfs", "/a", endpoint_url=f"hdfs://{authority}", hadoop=Hadoop(properties=properties or {}))


def test_where_namenodes_are() -> None:
    assert namenodes(config("nn")).url == "hdfs://nn:8020"
    assert namenodes(config("nn:9000")).addresses == {"": ("nn", 9000)}
    assert namenodes(config("[::1]:9000")).addresses == {"": ("::1", 9000)}
    service = {"dfs.ha.namenodes.NS": " a , b", "dfs.namenode.rpc-address.NS.a": "h1:1"}
    with pytest.raises(UsageError, match=r"Set dfs\.namenode\.rpc-address\.NS\.b to host:port"):
        namenodes(config("NS", service))
    found = namenodes(config("NS", {**service, "dfs.namenode.rpc-address.NS.b": "h2:2"}))
    assert found.url == "hdfs://NS"
    assert found.properties == {"dfs.ha.namenodes.NS": "a,b"}
    assert list(found.addresses.values()) == [("h1", 1), ("h2", 2)]


@pytest.fixture
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in ("HADOOP_HOME", "HADOOP_USER_NAME", "SKYPLANE_HDFS_DATANODES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HADOOP_CONF_DIR", str(tmp_path))
    return tmp_path


def test_the_environment(surroundings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (surroundings / "hdfs-site.xml").write_text(
        "<configuration><property><name>dfs.ha.namenodes.ns</name><value>a,b</value></property>"
        "<property><name>dfs.client.socket-timeout</name><value> 5 </value></property>"
        "<property><name>dfs.namenode.name.dir</name><value>/secret</value></property></configuration>"
    )
    monkeypatch.setenv("HADOOP_USER_NAME", "alice")
    monkeypatch.setenv("SKYPLANE_HDFS_DATANODES", "dn1 = 203.0.113.7, 10.0.0.5:9866=127.0.0.1:1,")
    assert environment() == Hadoop(
        "alice",
        {"dfs.ha.namenodes.ns": "a,b", "dfs.client.socket-timeout": "5"},
        {"dn1": "203.0.113.7", "10.0.0.5:9866": "127.0.0.1:1"},
    )


def test_a_user_without_a_name(surroundings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 50000")

    monkeypatch.setattr("getpass.getuser", nameless)
    assert environment().user == str(os.getuid())


def test_a_configuration_that_cannot_be_read(surroundings: Path) -> None:
    (surroundings / "core-site.xml").write_text("<configuration>")
    with pytest.raises(UsageError, match="cannot be read") as caught:
        environment()
    assert caught.value.where == str(surroundings / "core-site.xml")


@pytest.mark.parametrize("said", ["dn1", "=x", "dn1=", "dn1=a b", "dn1=http://x", "dn1=x:y"])
def test_addresses_that_are_none(surroundings: Path, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setenv("SKYPLANE_HDFS_DATANODES", said)
    with pytest.raises(UsageError, match="other address of a DataNode") as caught:
        environment()
    assert caught.value.where == "SKYPLANE_HDFS_DATANODES"


def test_with_kerberos_the_ticket_says_who_it_is() -> None:
    assert settings("alice", {"hadoop.security.authentication": "kerberos"}, {}, "here").user == ""
    with pytest.raises(UsageError, match="signed or encrypted"):
        settings("alice", {"hadoop.rpc.protection": "privacy"}, {"a": "b"}, "here")
