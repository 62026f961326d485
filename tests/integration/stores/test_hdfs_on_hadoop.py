"""What a real NameNode refuses, and how it is reached: users, nameservices, DataNodes with other addresses."""

from __future__ import annotations

import contextlib
import getpass
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from awscrt.checksums import crc32c

from skyplane_core.errors import (
    PermissionDenied,
    SourceChanged,
    StoreError,
    StoreRejected,
    StoreUnavailable,
)
from skyplane_core.model import Hadoop, ObjectAttributes, Precondition, StoreConfig, Stored
from skyplane_core.spec import SOURCE_VERSION_KEY
from skyplane_core.stores.hdfs import HdfsStore, make_root, open_store
from skyplane_core.testing.objectserver import ObjectServer
from tests.docs.pages import on_page
from tests.docs.running import SOURCE, environment_for, shell
from tests.servers.hdfs import HdfsServer, hdfs


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HdfsServer]:
    with hdfs(tmp_path_factory.mktemp("hdfs")) as running:
        yield running


def opened(server: HdfsServer, root: str = "/user", url: str = "", hadoop: Hadoop = Hadoop()) -> HdfsStore:
    return open_store(StoreConfig("hdfs", root, endpoint_url=url or server.url, hadoop=hadoop))


def put(store: HdfsStore, key: str, content: bytes, precondition: Precondition = Precondition()) -> Stored:
    return store.data().put_object(
        key, memoryview(content), crc32c=crc32c(content), attributes=ObjectAttributes(), precondition=precondition
    )


def get(store: HdfsStore, key: str) -> bytes:
    info = store.head(key)
    buffer = bytearray(info.size)
    store.data().read_into(key, info.version, 0, memoryview(buffer))
    return bytes(buffer)


def test_files_belong_to_the_user_that_is_asked_for_and_not_to_the_process(server: HdfsServer) -> None:
    for user in ("alice", "bob", ""):
        store = opened(server, hadoop=Hadoop(user=user))
        put(store, f"of-{user}", b"x")
        listed = server.shell("-ls", f"/user/of-{user}").decode().split()
        assert (user or getpass.getuser()) in listed
        store.close()


def test_another_user_may_not(server: HdfsServer) -> None:
    server.make_directory("/user/private", 0o700)
    put(opened(server, "/user/private"), "k", b"x")
    hadoop = Hadoop(user="mallory")
    with pytest.raises(PermissionDenied, match="HADOOP_USER_NAME"):
        make_root(StoreConfig("hdfs", "/user/private/new", endpoint_url=server.url, hadoop=hadoop))
    store = opened(server, "/user/private", hadoop=hadoop)
    for call in (store.probe, lambda: list(store.list()), lambda: store.head("k"), lambda: put(store, "l", b"x")):
        with pytest.raises(PermissionDenied, match="HADOOP_USER_NAME") as raised:
            call()
        assert raised.value.where.startswith(f"{server.url}/user/private")
        assert "\n" not in raised.value.why
    store.close()


def test_a_quota(server: HdfsServer) -> None:
    server.make_directory("/user/small")
    server.admin("-setSpaceQuota", "1m", "/user/small")
    with pytest.raises(StoreRejected, match="quota is used up"):
        put(opened(server, "/user/small"), "k", b"x" * 2_000_000)


def test_safe_mode_passes(server: HdfsServer) -> None:
    store = opened(server)
    server.admin("-safemode", "enter")
    try:
        with pytest.raises(StoreUnavailable, match="safe mode"):
            put(store, "k", b"x")
    finally:
        server.admin("-safemode", "leave")
    put(store, "k", b"x")


def test_nobody_there(server: HdfsServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    for hadoop in (Hadoop(), Hadoop(user="somebody-else")):
        store = opened(server, url=f"hdfs://127.0.0.1:{port}", hadoop=hadoop)
        with pytest.raises(StoreUnavailable, match="Check the NameNode's address") as raised:
            store.probe()
        assert raised.value.where == f"hdfs://127.0.0.1:{port}/user"
        assert "refused" in raised.value.why
        store.close()


@pytest.mark.parametrize("user", ["", "carol"], ids=["straight", "by-relay"])
def test_a_nameservice_goes_on_with_the_namenode_that_is_there(server: HdfsServer, user: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    properties = {
        "dfs.ha.namenodes.Service-1": "gone, there",
        "dfs.namenode.rpc-address.Service-1.gone": f"127.0.0.1:{port}",
        "dfs.namenode.rpc-address.Service-1.there": server.url.removeprefix("hdfs://"),
    }
    store = opened(server, url="hdfs://Service-1", hadoop=Hadoop(user=user, properties=properties))
    assert store.uri == "hdfs://Service-1/user"
    put(store, f"by-service-{user}", b"content")
    assert get(store, f"by-service-{user}") == b"content"
    store.close()


def test_a_datanode_behind_another_port(server: HdfsServer) -> None:
    """As through a tunnel: the DataNode's port is another one from outside."""
    put(opened(server), "tunnelled", b"content" * 1000)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        heard = threading.Thread(target=tunnel, args=(listener, server.datanode))
        heard.start()
        outside = {f"datanode.invalid:{server.datanode}": f"127.0.0.1:{listener.getsockname()[1]}"}
        store = opened(server, hadoop=Hadoop(datanodes=outside))
        assert get(store, "tunnelled") == b"content" * 1000
        put(store, "tunnelled-back", b"content" * 2000)
        store.close()
        listener.shutdown(socket.SHUT_RDWR)
        heard.join()
    assert get(opened(server), "tunnelled-back") == b"content" * 2000


def tunnel(listener: socket.socket, port: int) -> None:
    while True:
        try:
            near, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=through, args=(near, port), daemon=True).start()


def through(near: socket.socket, port: int) -> None:
    with near, socket.create_connection(("127.0.0.1", port)) as far:
        back = threading.Thread(target=pump, args=(far, near))
        back.start()
        pump(near, far)
        back.join()


def pump(one: socket.socket, other: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := one.recv(65536):
            other.sendall(data)
        other.shutdown(socket.SHUT_WR)


def test_what_appends_while_we_read_changes_the_source(server: HdfsServer) -> None:
    store = opened(server)
    put(store, "growing", b"first")
    version = store.head("growing").version
    server.append("/user/growing", b" and more")
    with pytest.raises(SourceChanged, match="asked for"):
        store.data().read_into("growing", version, 0, memoryview(bytearray(5)))


def test_a_file_and_files_below_it(server: HdfsServer) -> None:
    store = opened(server)
    put(store, "conflict", b"x")
    with pytest.raises(StoreRejected, match="both a file 'a' and files below"):
        put(store, "conflict/below", b"x")
    put(store, "other/below", b"x")
    for precondition in (Precondition(), Precondition(absent=True)):
        with pytest.raises(StoreRejected, match="both a file 'a' and files below"):
            put(store, "other", b"x", precondition)
    assert get(store, "other/below") == b"x"


def test_completions_that_are_asked_for_twice_write_once(server: HdfsServer) -> None:
    server.make_directory("/user/team", 0o777)
    store = opened(server, "/user/team", hadoop=Hadoop(user="alice"))
    content = bytes(range(256)) * 40_000
    upload = store.create_upload("twice", ObjectAttributes())
    size = len(content) // 2
    parts = [
        store.data().put_part(
            "twice", upload, number, start, memoryview(content)[start : start + size],
            crc32c=crc32c(content[start : start + size]),
        )
        for number, start in ((1, 0), (2, size))
    ]  # fmt: skip
    answers: list[Stored] = []

    def complete() -> None:
        answers.append(
            store.complete_upload(
                "twice", upload, parts, size=len(content), crc32c=crc32c(content), precondition=Precondition()
            )
        )

    threads = [threading.Thread(target=complete) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 4
    assert len(set(map(repr, answers))) == 1
    assert get(store, "twice") == content
    store.close()


def test_a_completion_that_was_interrupted_after_the_parts_were_joined(server: HdfsServer) -> None:
    store = opened(server, "/user")
    upload = store.create_upload("joined", ObjectAttributes())
    content = b"a" * 1_000_000 + b"b" * 7
    parts = [
        store.data().put_part("joined", upload, number, start, part, crc32c=crc32c(part))
        for number, start, part in (
            (1, 0, memoryview(content)[:1_000_000]),
            (2, 1_000_000, memoryview(content)[1_000_000:]),
        )
    ]
    at = f"/user/.skyplane/uploads/{upload}/part-"
    assert store._hdfs.calls is not None
    store._hdfs.calls.concat(f"{at}1-{parts[0].part_id}", [f"{at}2-{parts[1].part_id}"], "here")
    store.complete_upload(
        "joined", upload, parts, size=len(content), crc32c=crc32c(content), precondition=Precondition()
    )
    assert server.blocks("/user/joined") == content


def test_what_a_file_is_a_copy_of_is_known_until_somebody_writes_to_it(server: HdfsServer) -> None:
    store = opened(server, "/user")
    attributes = ObjectAttributes(content_type="text/plain", metadata={SOURCE_VERSION_KEY: '"etag" of/source'})
    store.data().put_object(
        "copied", memoryview(b"x"), crc32c=crc32c(b"x"), attributes=attributes, precondition=Precondition()
    )
    upload = store.create_upload("copied-in-parts", attributes)
    part = store.data().put_part("copied-in-parts", upload, 1, 0, memoryview(b"x"), crc32c=crc32c(b"x"))
    store.complete_upload("copied-in-parts", upload, [part], size=1, crc32c=crc32c(b"x"), precondition=Precondition())
    for key in ("copied", "copied-in-parts"):
        assert store.head(key).attributes == ObjectAttributes(metadata={SOURCE_VERSION_KEY: '"etag" of/source'})
        assert "user.skyplane.source" in server.shell("-getfattr", "-d", f"/user/{key}").decode()
        server.append(f"/user/{key}", b"y")
        assert store.head(key).attributes == ObjectAttributes()


def test_where_parts_cannot_be_joined_they_are_read_once_more_and_one_that_is_damaged_is_found(
    server: HdfsServer,
) -> None:
    store = opened(server, "/user")
    store._hdfs.calls = None
    content = bytes(range(256)) * 10_000
    upload = store.create_upload("written", ObjectAttributes())
    parts = [
        store.data().put_part("written", upload, number, start, part, crc32c=crc32c(part))
        for number, start, part in ((1, 0, memoryview(content)[:999]), (2, 999, memoryview(content)[999:]))
    ]
    store.complete_upload(
        "written", upload, parts, size=len(content), crc32c=crc32c(content), precondition=Precondition()
    )
    assert get(store, "written") == content
    upload = store.create_upload("damaged", ObjectAttributes())
    part = store.data().put_part("damaged", upload, 1, 0, memoryview(b"right"), crc32c=crc32c(b"right"))
    path = f"/user/.skyplane/uploads/{upload}/part-1-{part.part_id}"
    server.overwrite(path, b"wrong")
    with pytest.raises(StoreError, match="reads back differently"):
        store.complete_upload("damaged", upload, [part], size=5, crc32c=crc32c(b"right"), precondition=Precondition())
    assert "damaged" not in [info.key for info in store.list("damaged")]
    store.abort_upload("damaged", upload)


def test_the_commands_of_the_documentation(server: HdfsServer, tmp_path: Path) -> None:
    """As docs/hdfs.md shows them, with this NameNode's address in the place of those there."""
    text = "".join(snippet.text for snippet in reversed(on_page("hdfs.md", "hdfs")))
    for name in ("namenode.example.org", "nameservice1"):
        text = text.replace(f"hdfs://{name}", server.url)
    server.make_directory("/data", 0o777)
    with (
        ObjectServer("s3", buckets=["source-bucket"], in_process=False) as s3,
        ObjectServer("gcs", buckets=["destination-bucket"], in_process=False) as gcs,
    ):
        for key, body in SOURCE.items():
            s3.put("source-bucket", key, body)
        shell(text, environment_for(s3.endpoint_url, gcs.endpoint_url), tmp_path)
        for key, body in SOURCE.items():
            assert gcs.get("destination-bucket", key) == body
