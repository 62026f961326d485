"""Our Azure store on Azurite, beside clients that nobody here wrote: azure-storage-blob and rclone."""

# ruff: noqa: TID253 - the SDK is what is used here.
from __future__ import annotations

import base64
import datetime
import ipaddress
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from awscrt.checksums import crc32c
from azure.storage.blob import (
    AccountSasPermissions,
    BlobServiceClient,
    ContainerClient,
    ContainerSasPermissions,
    ResourceTypes,
    generate_account_sas,
    generate_container_sas,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from skyplane_core.errors import (
    BucketNotFound,
    PermissionDenied,
    StoreRejected,
    StoreUnavailable,
    Unauthenticated,
    UploadNotFound,
)
from skyplane_core.model import (
    Attestation,
    Credentials,
    ObjectAttributes,
    Precondition,
    StoreConfig,
    Stored,
    StoredPart,
)
from skyplane_core.stores.azure import AzureStore
from skyplane_core.stores.azure_auth import sas_token
from skyplane_core.stores.azure_container import make_container
from tests.servers.azurite import ACCOUNT, KEY, running

ANY = Precondition()
PLAIN = ObjectAttributes()
BOX = f"{ACCOUNT}/box"


@pytest.fixture(scope="module")
def endpoint_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running(tmp_path_factory.mktemp("azurite")) as url:
        yield url


@pytest.fixture
def container(endpoint_url: str) -> Iterator[ContainerClient]:
    with BlobServiceClient(
        f"{endpoint_url}/{ACCOUNT}", credential={"account_name": ACCOUNT, "account_key": KEY}
    ) as service:
        client = service.get_container_client("box")
        client.create_container()
        yield client
        client.delete_container()


@pytest.fixture
def config(endpoint_url: str, container: ContainerClient) -> StoreConfig:
    return StoreConfig("azure", BOX, endpoint_url=endpoint_url, credentials=Credentials(ACCOUNT, KEY))


@pytest.fixture
def store(config: StoreConfig) -> Iterator[AzureStore]:
    opened = AzureStore(config)
    yield opened
    opened.close()


def replaced(config: StoreConfig, credentials: Credentials) -> StoreConfig:
    return StoreConfig("azure", config.bucket, endpoint_url=config.endpoint_url, credentials=credentials)


def put(store: AzureStore, key: str, content: bytes, attributes: ObjectAttributes = PLAIN) -> Stored:
    data = store.data()
    try:
        return data.put_object(
            key, memoryview(content), crc32c=crc32c(content), attributes=attributes, precondition=ANY
        )
    finally:
        data.close()


def put_part(store: AzureStore, key: str, upload_id: str, number: int, content: bytes) -> StoredPart:
    data = store.data()
    try:
        return data.put_part(key, upload_id, number, 0, memoryview(content), crc32c=crc32c(content))
    finally:
        data.close()


def get(store: AzureStore, key: str) -> bytes:
    info = store.head(key)
    buffer = bytearray(info.size)
    data = store.data()
    try:
        data.read_into(key, info.version, 0, memoryview(buffer))
    finally:
        data.close()
    return bytes(buffer)


@pytest.mark.parametrize("key", ["plain", "a b", "ü/日本", "100%", "q?x=1&y#z", "a//b", "%2F", "k" * 1024])
def test_the_sdk_reads_what_we_write_and_we_what_it_writes(
    store: AzureStore, container: ContainerClient, key: str
) -> None:
    attributes = ObjectAttributes(content_type="text/plain", cache_control="no-cache", metadata={"Owner_1": "me"})
    put(store, key, b"ours", attributes)
    blob = container.get_blob_client(key)
    assert blob.download_blob().readall() == b"ours"
    seen = blob.get_blob_properties()
    assert (seen.content_settings.content_type, seen.content_settings.cache_control) == ("text/plain", "no-cache")
    assert seen.metadata == {"Owner_1": "me"}
    blob.upload_blob(b"theirs", overwrite=True, metadata={"theirs": "x"})
    assert get(store, key) == b"theirs"
    listed = next(info for info in store.list() if info.key == key)
    assert listed.attributes is not None
    assert listed.attributes.metadata == {"theirs": "x"}
    assert listed.version == store.head(key).version


def test_rclone_reads_what_we_write_in_blocks(store: AzureStore, config: StoreConfig, tmp_path: Path) -> None:
    content = os.urandom(3_000_001)
    pieces = [content[:2_000_000], content[2_000_000:]]
    upload = store.create_upload("dir/large", PLAIN)
    parts = [put_part(store, "dir/large", upload, number, piece) for number, piece in enumerate(pieces, 1)]
    stored = store.complete_upload(
        "dir/large", upload, parts, size=len(content), crc32c=crc32c(content), precondition=Precondition(absent=True)
    )
    assert stored.attestation is Attestation.PER_PART
    remote = f":azureblob,account={ACCOUNT},key='{KEY}',endpoint='{config.endpoint_url}/{ACCOUNT}':box/dir/large"
    read = subprocess.run(
        ["rclone", "--config", os.devnull, "cat", remote],
        capture_output=True,
        check=True,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(tmp_path)},
    )
    assert read.stdout == content


def test_an_endpoint_without_crc64_gets_md5_and_is_told_of_once(
    store: AzureStore, container: ContainerClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "skyplane_core.stores.azure_calls"):
        assert put(store, "one", b"1").attestation is Attestation.WHOLE
        upload = store.create_upload("striped", PLAIN)
        put_part(store, "striped", upload, 1, b"x" * 1000)
        put(store, "two", b"2")
    assert [record.message for record in caplog.records if "CRC64" in record.message] == [
        "this endpoint does not check CRC64: MD5 is used, at a CPU second a GB"
    ]
    kept = container.get_blob_client("two").get_blob_properties().content_settings.content_md5
    assert base64.b64encode(bytes(kept)) == b"yB5yjZ1ML2NvBn+JzBSGLA=="


def test_a_sas_token_may_do_what_it_says(config: StoreConfig, store: AzureStore) -> None:
    put(store, "object", b"content")
    now = datetime.datetime.now(datetime.timezone.utc)
    hour = datetime.timedelta(hours=1)

    def using(permission: ContainerSasPermissions, expiry: datetime.datetime) -> AzureStore:
        text = generate_container_sas(ACCOUNT, "box", account_key=KEY, permission=permission, expiry=expiry)
        return AzureStore(replaced(config, sas_token(text, "the token")))

    everything = using(ContainerSasPermissions(read=True, write=True, list=True, create=True, delete=True), now + hour)
    everything.probe()
    assert [info.key for info in everything.list()] == ["object"]
    put(everything, "new", b"new")
    upload = everything.create_upload("striped", PLAIN)
    part = put_part(everything, "striped", upload, 1, b"part")
    everything.complete_upload("striped", upload, [part], size=4, crc32c=crc32c(b"part"), precondition=ANY)
    assert get(everything, "striped") == b"part"
    everything.delete("new")
    everything.close()

    reader = using(ContainerSasPermissions(read=True, list=True), now + hour)
    assert get(reader, "object") == b"content"
    with pytest.raises(PermissionDenied) as caught:
        put(reader, "new", b"new")
    assert "sig=" not in str(caught.value)
    reader.close()

    stale = using(ContainerSasPermissions(read=True, list=True), now - hour)
    with pytest.raises((Unauthenticated, PermissionDenied)) as refused:
        stale.probe()
    assert "sig=" not in str(refused.value)
    stale.close()


def test_a_container_that_we_make_is_private_and_a_token_of_one_makes_none(config: StoreConfig) -> None:
    made = StoreConfig(
        "azure", f"{ACCOUNT}/made", endpoint_url=config.endpoint_url, credentials=Credentials(ACCOUNT, KEY)
    )
    permission = ContainerSasPermissions(read=True, write=True, list=True, create=True)
    tomorrow = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=1)
    text = generate_container_sas(ACCOUNT, "made", account_key=KEY, permission=permission, expiry=tomorrow)
    with pytest.raises((PermissionDenied, Unauthenticated), match="cannot create the container") as caught:
        make_container(replaced(made, sas_token(text, "the token")))
    assert "sig=" not in str(caught.value)
    make_container(made)
    make_container(made)
    with BlobServiceClient(
        f"{config.endpoint_url}/{ACCOUNT}", credential={"account_name": ACCOUNT, "account_key": KEY}
    ) as service:
        client = service.get_container_client("made")
        assert client.get_container_properties().public_access is None
        client.delete_container()


def test_an_accounts_sas_token(config: StoreConfig) -> None:
    text = generate_account_sas(
        ACCOUNT,
        KEY,
        resource_types=ResourceTypes(container=True, object=True),
        permission=AccountSasPermissions(read=True, list=True, write=True, create=True),
        expiry=datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1),
    )
    credentials = sas_token(f"?{text}", "the token")
    assert credentials.expires_at is not None
    using = AzureStore(replaced(config, credentials))
    put(using, "object", b"content")
    assert get(using, "object") == b"content"
    using.close()


def test_a_public_container_is_read_without_credentials(
    config: StoreConfig, store: AzureStore, container: ContainerClient
) -> None:
    put(store, "object", b"content")
    anonymous = AzureStore(replaced(config, Credentials()))
    with pytest.raises((BucketNotFound, PermissionDenied, Unauthenticated)) as caught:
        anonymous.probe()
    assert "AZURE_STORAGE_KEY" in caught.value.next_step
    container.set_container_access_policy({}, public_access="container")
    anonymous.probe()
    assert [info.key for info in anonymous.list()] == ["object"]
    assert get(anonymous, "object") == b"content"
    with pytest.raises((PermissionDenied, Unauthenticated, StoreRejected, BucketNotFound)):
        put(anonymous, "new", b"new")
    anonymous.close()


def test_blocks_of_others_are_left_alone_and_not_ours_to_list(store: AzureStore, container: ContainerClient) -> None:
    blob = container.get_blob_client("shared")
    theirs = base64.b64decode(StoredBlockIds.like_ours()).decode()
    blob.stage_block(theirs, b"theirs")
    upload = store.create_upload("shared", PLAIN)
    part = put_part(store, "shared", upload, 1, b"ours")
    assert list(store.list_parts("shared", upload)) == [part]
    assert list(store.list_uploads()) == [("shared", upload)]
    store.abort_upload("shared", upload)
    assert list(store.list_uploads()) == []
    _, waiting = blob.get_block_list("all")
    assert theirs in [block.id for block in waiting]
    with pytest.raises(UploadNotFound):
        list(store.list_parts("shared", upload))
    # Their commit is what drops ours.
    blob.commit_block_list([theirs])
    assert blob.download_blob().readall() == b"theirs"
    assert blob.get_block_list("uncommitted")[1] == []


class StoredBlockIds:
    """Ids as another program may choose them."""

    @staticmethod
    def like_ours() -> str:
        return base64.b64encode(b"another program's block, 33 bytes"[:33]).decode()


def test_another_uploads_longer_block_ids_are_named(store: AzureStore, container: ContainerClient) -> None:
    container.get_blob_client("shared").stage_block("short", b"theirs")
    with pytest.raises(StoreRejected) as caught:
        store.create_upload("shared", PLAIN)
    assert "block ids of another length" in caught.value.next_step
    assert caught.value.where == f"az://{BOX}/shared"


def test_a_lease_is_named(store: AzureStore, container: ContainerClient) -> None:
    put(store, "leased", b"first")
    lease = container.get_blob_client("leased").acquire_lease()
    for write in (lambda: put(store, "leased", b"second"), lambda: store.delete("leased")):
        with pytest.raises(StoreRejected) as caught:
            write()
        assert "az storage blob lease break" in caught.value.next_step
    assert get(store, "leased") == b"first"
    lease.break_lease(0)
    put(store, "leased", b"second")


def test_a_blob_in_the_archive_is_named(store: AzureStore, container: ContainerClient) -> None:
    put(store, "cold", b"content")
    container.get_blob_client("cold").set_standard_blob_tier("Archive")
    with pytest.raises(StoreRejected) as caught:
        get(store, "cold")
    assert "archive tier" in caught.value.next_step


def test_threads_share_a_store(store: AzureStore) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            put(store, f"object-{number}", b"%d" % number)
            assert get(store, f"object-{number}") == b"%d" % number
        except BaseException as error:  # noqa: BLE001 - reported below, in the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(list(store.list())) == 8


def test_the_command_finds_its_way_by_the_environment(
    config: StoreConfig, container: ContainerClient, tmp_path: Path
) -> None:
    (tmp_path / "src" / "sub").mkdir(parents=True)
    (tmp_path / "src" / "sub" / "a b").write_bytes(b"content")
    environment = {
        **os.environ,
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "AZURE_STORAGE_CONNECTION_STRING": (
            f"AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={config.endpoint_url}/{ACCOUNT}"
        ),
    }
    for source, destination in (("src", f"az://{BOX}/up/"), (f"azure://{BOX}/up/", "down")):
        done = subprocess.run(
            [sys.executable, "-m", "skyplane_core.cli", "cp", "-r", source, destination],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert KEY not in done.stdout + done.stderr
    assert container.download_blob("up/sub/a b").readall() == b"content"
    assert (tmp_path / "down" / "sub" / "a b").read_bytes() == b"content"


def certificate(directory: Path) -> tuple[str, str]:
    """A certificate for 127.0.0.1, which vouches for itself, and its key: two PEM files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = directory / "cert.pem", directory / "key.pem"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    return str(paths[0]), str(paths[1])


def access_token(*, expires_in: float) -> str:
    """A token as Entra ID would give, but for its signature, at which Azurite does not look."""
    now = int(time.time())
    claims = {
        "aud": "https://storage.azure.com",
        "iss": "https://sts.windows.net/ab1f708d-50f6-404c-a006-d71b2ac7a606/",
        "iat": now - 60,
        "nbf": now - 60,
        "exp": int(now + expires_in),
    }
    parts = (json.dumps(part).encode() for part in ({"alg": "RS256", "typ": "JWT"}, claims))
    return ".".join([*(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts), "c2lnbmF0dXJl"])


def test_bearer_tokens_over_https(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    with running(tmp_path, "--oauth", "basic", "--cert", cert, "--key", key) as url:
        with BlobServiceClient(
            f"{url}/{ACCOUNT}", credential={"account_name": ACCOUNT, "account_key": KEY}, connection_verify=cert
        ) as service:
            service.create_container("box").close()

        def using(token: str, verify: bool | str = cert) -> AzureStore:
            return AzureStore(
                StoreConfig("azure", BOX, endpoint_url=url, verify=verify, credentials=Credentials(token=token))
            )

        good = using(access_token(expires_in=600))
        put(good, "object", b"content")
        assert get(good, "object") == b"content"
        good.close()
        stale = using(access_token(expires_in=-30))
        with pytest.raises(Unauthenticated) as caught:
            stale.probe()
        assert "renew" in caught.value.next_step
        stale.close()
        distrustful = using(access_token(expires_in=600), verify=True)
        with pytest.raises(StoreUnavailable, match="CA bundle"):
            distrustful.probe()
        distrustful.close()
