"""Plain connections are read without the cloud providers' packages, and come out as those packages read them."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_skyplane.hooks import aws, gcp
from airflow_provider_skyplane.hooks.aws_plain import plain_config

KEYS = {"conn_type": "aws", "login": "AKIAPLAIN", "password": "plain-secret-key"}
REGION = {"region_name": "eu-west-1"}


@pytest.fixture(autouse=True)
def no_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """No AWS profile of whoever runs the tests."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "GOOGLE_", "CLOUDSDK_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def connection(monkeypatch: pytest.MonkeyPatch, name: str, **fields: Any) -> str:
    monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(fields))
    return name


def plain(name: str, **options: Any) -> Any:
    return plain_config("bucket", name, **({"region_name": None, "verify": None, "botocore_config": None} | options))


extras = st.fixed_dictionaries(
    {},
    optional={
        "region_name": st.sampled_from(["eu-west-1", "us-east-1", "aws-global", "", None]),
        "endpoint_url": st.sampled_from(["http://127.0.0.1:9000", "https://store.example", None]),
        "verify": st.sampled_from([True, False, "/etc/ssl/ca.pem"]),
        "aws_session_token": st.sampled_from(["token", None]),
        "service_config": st.sampled_from([{}, {"s3": {"endpoint_url": "https://s3.example"}}, {"sts": {}}]),
        "config_kwargs": st.sampled_from(
            [
                {},
                {"s3": {"addressing_style": "path"}},
                {"s3": {"addressing_style": "virtual"}},
                {"s3": {"addressing_style": "auto"}, "connect_timeout": 5, "retries": {"max_attempts": 2}},
                {"signature_version": "unsigned"},
                {"region_name": "ap-south-1"},
            ]
        ),
        "aws_access_key_id": st.just("AKIAEXTRA"),
        "profile_name": st.just("nobody"),
    },
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(extra=extras, region=st.sampled_from([None, "us-west-2"]), verify=st.sampled_from([None, False, "/ca.pem"]))
def test_an_aws_connection_comes_out_as_the_provider_reads_it(
    monkeypatch: pytest.MonkeyPatch, extra: dict[str, Any], region: str | None, verify: Any
) -> None:
    name = connection(monkeypatch, "aws_plain", **KEYS, extra=extra)
    direct = plain(name, region_name=region, verify=verify)
    if direct is not None:
        assert direct == aws.provider_config("bucket", name, region_name=region, verify=verify)
        assert direct.credentials.secret_key == "plain-secret-key"


def test_an_aws_connection_with_keys_and_a_region_is_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    name = connection(monkeypatch, "aws_plain", **KEYS, extra=REGION)
    assert plain(name) is not None


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"extra": REGION | {"role_arn": "arn:aws:iam::1:role/r"}}, "a role has to be assumed"),
        ({"extra": REGION | {"session_kwargs": {"profile_name": "p"}}}, "an option that we do not know"),
        ({"extra": {}}, "the region comes from botocore's chain"),
        ({"login": "", "password": "", "extra": REGION}, "the credentials come from botocore's chain"),
        ({"conn_type": "s3", "extra": REGION}, "the provider warns of another type"),
        ({"extra": REGION | {"config_kwargs": {"signature_version": "unsigned"}}}, "anonymous"),
    ],
)
def test_other_aws_connections_are_left_to_the_provider(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], why: str
) -> None:
    name = connection(monkeypatch, "aws_other", **(KEYS | change))
    assert plain(name) is None, why


def test_a_profile_file_or_variable_is_left_to_the_provider(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    name = connection(monkeypatch, "aws_plain", **KEYS, extra=REGION)
    with monkeypatch.context() as patch:
        patch.setenv("AWS_PROFILE", "work")
        assert plain(name) is None
    config = tmp_path / ".aws" / "config"
    config.parent.mkdir()
    config.write_text("[default]\ns3 =\n  addressing_style = path\n")
    assert plain(name) is None


@pytest.mark.parametrize(("told", "used"), [("ap-south-1", "ap-south-1"), ("", "eu-west-1")])
def test_a_bucket_of_aws_is_used_in_its_own_region(monkeypatch: pytest.MonkeyPatch, told: str, used: str) -> None:
    """AWS itself cannot be asked here; what it answers is in tests/unit/stores/test_s3_auth.py."""
    monkeypatch.setattr(aws, "bucket_region", lambda _config: told)
    name = connection(monkeypatch, "aws_plain", **KEYS, extra=REGION)
    assert aws.s3_config("bucket", name).region == used
    elsewhere = connection(monkeypatch, "aws_other", **KEYS, extra=REGION | {"endpoint_url": "http://127.0.0.1:1"})
    assert aws.s3_config("bucket", elsewhere).region == "eu-west-1"


@pytest.mark.parametrize("encode", [dict, json.dumps], ids=["dict", "text"])
@pytest.mark.parametrize("project", [{}, {"project": "other"}], ids=["own-project", "given-project"])
def test_a_google_key_comes_out_as_the_provider_reads_it(
    monkeypatch: pytest.MonkeyPatch, encode: Any, project: dict[str, str]
) -> None:
    info = key_file()
    extra = {"keyfile_dict": encode(info), "num_retries": 3} | project
    name = connection(monkeypatch, "gcp_plain", conn_type="google_cloud_platform", extra=extra)
    assert gcp.is_plain(extra, None)
    ours, our_project = gcp.raw_credentials(name, extra, None)
    theirs, their_project = gcp.provider_credentials(name, None)
    assert our_project == their_project == project.get("project", "from-the-key")
    assert ours.service_account_email == theirs.service_account_email == "robot@example.com"
    assert ours.signer.sign(b"x") == theirs.signer.sign(b"x")
    assert list(ours.scopes) == list(theirs.scopes)


def test_an_anonymous_google_connection_needs_no_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"is_anonymous": True, "project": "p"}
    name = connection(monkeypatch, "gcp_plain", conn_type="google_cloud_platform", extra=extra)
    assert gcp.is_plain(extra, None)
    store = gcp.gcs_config("bucket", name)
    assert (store.credentials.anonymous, store.project) == (True, "p")


@pytest.mark.parametrize(
    ("extra", "chain"),
    [
        ({"keyfile_dict": {}, "scope": "https://www.googleapis.com/auth/devstorage.read_only"}, None),
        ({"is_anonymous": True}, "robot@example.com"),
        ({"is_anonymous": False, "project": "p"}, None),
        ({"key_secret_name": "secret"}, None),
        ({}, None),
    ],
)
def test_other_google_connections_are_left_to_the_provider(extra: dict[str, Any], chain: str | None) -> None:
    assert not gcp.is_plain(extra, chain)


def test_plain_connections_load_no_provider_and_no_sdk() -> None:
    code = (
        "import sys\n"
        "from airflow_provider_skyplane.hooks.aws import s3_config\n"
        "from airflow_provider_skyplane.hooks.gcp import gcs_config\n"
        "print(s3_config('b', 'aws_p').credentials.access_key, gcs_config('b', 'gcp_p').project)\n"
        "providers = ('airflow.providers.amazon.aws', 'airflow.providers.google.common')\n"
        "heavy = ('boto3', 'botocore', 'google.auth', *providers)\n"
        "print(sorted(name for name in heavy if name in sys.modules))\n"
    )
    connections = {
        "AIRFLOW_CONN_AWS_P": json.dumps({**KEYS, "extra": REGION | {"endpoint_url": "http://127.0.0.1:9000"}}),
        "AIRFLOW_CONN_GCP_P": json.dumps(
            {"conn_type": "google_cloud_platform", "extra": {"is_anonymous": True, "project": "p"}}
        ),
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | connections,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout.splitlines()[-2:] == ["AKIAPLAIN p", "[]"]


def key_file() -> dict[str, str]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    return {
        "type": "service_account",
        "project_id": "from-the-key",
        "client_email": "robot@example.com",
        "token_uri": "https://oauth2.googleapis.com/token",
        # As it comes out of many secret stores.
        "private_key": pem.replace("\n", "\\n"),
    }


def test_without_provider_and_connection_the_environment_holds_the_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    from botocore.exceptions import NoCredentialsError

    find = importlib.util.find_spec
    monkeypatch.setattr(
        aws.importlib.util, "find_spec", lambda name: None if name == "airflow.providers.amazon" else find(name)
    )
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAHERE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "environment-secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9000")
    found = aws.s3_config("bucket", "aws_default")
    assert (found.credentials.access_key, found.region) == ("AKIAHERE", "eu-west-1")
    assert found.endpoint_url == "http://127.0.0.1:9000"
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(NoCredentialsError):
        aws.s3_config("bucket", "aws_default")
