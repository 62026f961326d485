"""How a store is reached and written: what is taken, what is refused, and where services that speak S3 are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from skyplane_core.client import ClientConfig, Location, SkyplaneClient
from skyplane_core.errors import UsageError
from skyplane_core.locations import resolve
from skyplane_core.model import Credentials, StoreConfig
from skyplane_core.store_options import Addressing, StoreOptions, Symlinks
from skyplane_core.stores.s3_attributes import protection_headers
from skyplane_core.stores.s3_services import Place, place_of
from skyplane_core.stores.s3_sign import address

ACCOUNT = "0123456789abcdef" * 2
CLOUD_KEY = "projects/p/locations/eu/keyRings/r/cryptoKeys/k"
R2 = f"https://{ACCOUNT}.r2.cloudflarestorage.com"
COS = "https://s3.eu-de.cloud-object-storage.appdomain.cloud"


@pytest.mark.parametrize(
    ("kind", "written", "options", "told"),
    [
        ("local", False, {"requester_pays": True}, "requester_pays means nothing there"),
        ("local", True, {"endpoint_url": "http://x"}, "endpoint_url means nothing there"),
        ("hdfs", True, {"endpoint_url": "http://x"}, "endpoint_url means nothing there"),
        ("gcs", False, {"region": "eu"}, "region means nothing there"),
        ("gcs", False, {"addressing": "path"}, "addressing means nothing there"),
        ("gcs", False, {"requester_pays": True}, "needs a project to bill"),
        ("gcs", True, {"kms_key": "k"}, "projects/P/locations/L"),
        ("gcs", True, {"encryption": "AES256"}, "encryption means nothing there"),
        ("s3", False, {"project": "p"}, "project means nothing there"),
        ("s3", False, {"symlinks": "skip"}, "symlinks means nothing there"),
        ("s3", False, {"kms_key": "k"}, "kms_key is for a destination"),
        ("s3", False, {"encryption": "AES256"}, "encryption is for a destination"),
        ("s3", True, {"encryption": "AES256", "kms_key": "k"}, "AES256 takes no kms_key"),
        ("s3", True, {"acl": "everybody"}, "no access control list 'everybody'"),
        ("s3", False, {"acl": "private"}, "acl is for a destination"),
        ("gcs", True, {"acl": "private"}, "acl means nothing there"),
        ("s3", False, {"match_glob": "*"}, "match_glob means nothing there"),
        ("s3", True, {"object_version": "1"}, "object_version is for a source"),
        ("azure", False, {"object_version": "1"}, "object_version means nothing there"),
        ("gcs", True, {"match_glob": "*"}, "match_glob is for a source"),
        ("s3", True, {"endpoint_url": "http://10.0.0.1:9000", "addressing": "virtual"}, "in front of an IP address"),
    ],
)
def test_what_a_store_does_not_take_is_refused(kind: str, *, written: bool, options: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        StoreOptions.of(options).check(kind, f"{kind}://b", written=written)


def test_who_may_read_copies_need_not_see_journals_and_receipts() -> None:
    config = StoreOptions(acl="public-read", encryption="AES256").applied(StoreConfig("s3", "b"))
    encrypted = {"x-amz-server-side-encryption": "AES256"}
    for key in ("a", "a.skyplane/b", "skyplane/"):
        assert protection_headers(config, key) == {**encrypted, "x-amz-acl": "public-read"}
    for key in (".skyplane/1/receipt.json", "out/.skyplane/1/journal-0.jsonl"):
        assert protection_headers(config, key) == encrypted


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"requester_pay": True}, "requester_pay"),
        ({"requester_pays": "yes"}, "Expected bool"),
        ({"addressing": "dns"}, "Invalid enum value"),
        ({"region": 1}, "Expected str"),
    ],
)
def test_an_unknown_name_or_type_is_told_with_those_that_are_known(values: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told) as caught:
        StoreOptions.of(values)
    assert "requester_pays" in caught.value.next_step


def test_an_encryption_that_the_service_has_not_is_refused_with_those_that_it_has() -> None:
    with pytest.raises(UsageError, match="no encryption 'aes'") as caught:
        StoreOptions(encryption="aes").applied(StoreConfig("s3", "b"))
    assert "AES256, aws:kms, aws:kms:dsse" in caught.value.next_step
    with pytest.raises(UsageError, match="r2://b"):
        StoreOptions(encryption="AES256").applied(StoreConfig("s3", "b", service="r2"))


def test_what_is_taken_is_in_the_config() -> None:
    given = StoreOptions(requester_pays=True, addressing=Addressing.PATH, kms_key="key")
    assert given.applied(StoreConfig("s3", "b")) == StoreConfig(
        "s3", "b", requester_pays=True, path_style=True, encryption="aws:kms", kms_key="key"
    )
    billed = StoreOptions(requester_pays=True, project="p", kms_key=CLOUD_KEY)
    billed.check("gcs", "gs://b", written=True)
    assert billed.applied(StoreConfig("gcs", "b")) == StoreConfig(
        "gcs", "b", requester_pays=True, project="p", kms_key=CLOUD_KEY
    )
    assert StoreOptions(symlinks=Symlinks.SKIP).applied(StoreConfig("local", "/x")).symlinks == "skip"
    # A connection's own settings stay where nothing is said.
    assert StoreOptions().applied(StoreConfig("s3", "b", path_style=True)) == StoreConfig("s3", "b", path_style=True)


@pytest.mark.parametrize(
    ("endpoint", "how", "expected"),
    [
        ("", Addressing.AUTO, "https://b.s3.us-east-1.amazonaws.com/k"),
        ("", Addressing.PATH, "https://s3.us-east-1.amazonaws.com/b/k"),
        ("http://127.0.0.1:9000", Addressing.AUTO, "http://127.0.0.1:9000/b/k"),
        ("https://minio.example:9000/base", Addressing.AUTO, "https://minio.example:9000/base/b/k"),
        ("https://minio.example:9000/base", Addressing.VIRTUAL, "https://b.minio.example:9000/base/k"),
        (R2, Addressing.AUTO, f"{R2}/b/k"),
    ],
)
def test_a_bucket_is_named_in_the_path_or_in_the_host(endpoint: str, how: Addressing, expected: str) -> None:
    config = StoreOptions(addressing=how).applied(StoreConfig("s3", "b", endpoint_url=endpoint))
    place = address(config)
    assert place.endpoint_url + place.target("k").removeprefix("/base" if "/base" in place.endpoint_url else "") == (
        expected
    )


@pytest.mark.parametrize(
    ("service", "given", "environ", "expected"),
    [
        ("", {"endpoint_url": "http://x", "region": "r"}, {"R2_ACCOUNT_ID": ACCOUNT}, Place("http://x", "r")),
        ("r2", {"account": ACCOUNT}, {}, Place(R2, "auto")),
        ("r2", {}, {"R2_ACCOUNT_ID": ACCOUNT, "CLOUDFLARE_ACCOUNT_ID": "f" * 32}, Place(R2, "auto")),
        ("r2", {}, {"CLOUDFLARE_ACCOUNT_ID": ACCOUNT}, Place(R2, "auto")),
        ("r2", {"endpoint_url": "http://x"}, {"R2_ACCOUNT_ID": ACCOUNT}, Place("http://x", "auto")),
        ("cos", {"region": "eu-de"}, {"IBM_COS_REGION": "us"}, Place(COS, "eu-de")),
        ("cos", {}, {"IBM_COS_REGION": "eu-de"}, Place(COS, "eu-de")),
        ("cos", {"endpoint_url": COS}, {}, Place(COS, "eu-de")),
        ("cos", {"endpoint_url": "http://x"}, {}, Place("http://x", "")),
    ],
)
def test_where_a_service_is(service: str, given: dict[str, str], environ: dict[str, str], expected: Place) -> None:
    assert place_of(service, where="uri", environ=environ, **given) == expected


@pytest.mark.parametrize(
    ("service", "given", "environ", "told"),
    [
        ("r2", {}, {}, "which Cloudflare account"),
        ("r2", {"account": "me"}, {}, "account is 'me'"),
        ("r2", {}, {"R2_ACCOUNT_ID": "me.example/"}, "R2_ACCOUNT_ID is 'me.example/'"),
        ("cos", {}, {}, "which region"),
        ("cos", {"region": "eu-de.evil.example/"}, {}, "no region of IBM"),
    ],
)
def test_nothing_says_where_a_service_is(
    service: str, given: dict[str, str], environ: dict[str, str], told: str
) -> None:
    with pytest.raises(UsageError, match=told) as caught:
        place_of(service, where="uri", environ=environ, **given)
    assert caught.value.where == "uri"


def test_the_environment_resolves_r2_and_cos(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AK",
        "AWS_SECRET_ACCESS_KEY": "SK",
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:2",
        "AWS_DEFAULT_REGION": "eu-north-1",
        "R2_ACCOUNT_ID": ACCOUNT,
        "IBM_COS_REGION": "eu-de",
    }.items():
        monkeypatch.setenv(name, value)
    credentials = Credentials("AK", "SK")
    found = resolve("r2://b/k").store
    assert found == StoreConfig("s3", "b", R2, "auto", service="r2", credentials=credentials)
    assert found.object_uri("k") == "r2://b/k"
    assert resolve("cos://b/k").store == StoreConfig("s3", "b", COS, "eu-de", service="cos", credentials=credentials)
    assert resolve(f"{R2.replace(ACCOUNT, 'f' * 32)}/b/k").store.endpoint_url == R2.replace(ACCOUNT, "f" * 32)
    assert resolve("s3://b/k").store.endpoint_url == "http://127.0.0.1:2"
    anonymous = resolve("s3://b/k", options=StoreOptions(anonymous=True)).store
    assert anonymous.credentials.anonymous


def test_anonymous_gcs_asks_for_no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # A broken key file is an error for whoever looks at it.
    broken = tmp_path / "key.json"
    broken.write_text("{")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(broken))
    options = StoreOptions(anonymous=True)
    assert resolve("gs://b/k", options=options).store == StoreConfig("gcs", "b")


def test_options_for_a_location_are_refused_and_not_forgotten() -> None:
    here, there = (Location(StoreConfig("s3", name), "p/") for name in ("a", "b"))
    client = SkyplaneClient(ClientConfig(control_secret=b"a control secret for tests, 32 bytes or more"))
    for name in ("source_options", "destination_options"):
        with pytest.raises(UsageError, match="given as a URI"):
            client.prepare(here, there, recursive=True, **{name: StoreOptions(requester_pays=True)})
