"""Google's token services, and a GCS server that holds each token to the boundary that it was exchanged for."""

# ruff: noqa: TID253  # test code is never parsed as a DAG
from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import google.auth.downscoped
import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from airflow_provider_skyplane.hooks import gcp
from skyplane_core.model import StoreConfig
from skyplane_core.testing.objectserver import ObjectServer
from skyplane_core.testing.objectserver.gcs.protocol import GcsProtocol
from skyplane_core.testing.objectserver.messages import ApiError, Call, Request
from tests.servers.token_services import Asked, token_server

OWN = "canary-own-google-token"
"""The connection's own token, which may do everything."""

_BUCKET = "//storage.googleapis.com/projects/_/buckets/"
# Of Google's predefined roles, as far as they are about objects and uploads.
_READS = {"objects.get", "objects.list"}
_CHANGES = {*_READS, "objects.create", "objects.delete", "objects.update", "multipartUploads"}
_ROLES = {"objectViewer": _READS, "objectUser": _CHANGES, "objectAdmin": {*_CHANGES, "objects.setRetention"}}
_NEEDED = {
    "ListObjects": "objects.list",
    "HeadObject": "objects.get",
    "GetObject": "objects.get",
    "PutObject": "objects.create",
    "DeleteObject": "objects.delete",
    "PatchObject": "objects.setRetention",
    "CreateMultipartUpload": "multipartUploads",
    "UploadPart": "multipartUploads",
    "ListParts": "multipartUploads",
    "CompleteMultipartUpload": "multipartUploads",
    "AbortMultipartUpload": "multipartUploads",
    "ListMultipartUploads": "multipartUploads",
}


class BoundedGoogle:
    """The services and the server together; ``server`` has the buckets.

    ``seconds``: for so long new bound tokens are good. ``private_key``: the connection's. ``own_calls``: what was
    called with :data:`OWN`. ``refused``: what was wanted of a bound token that it is not good for.
    """

    server: ObjectServer

    def __init__(self) -> None:
        self.seconds = 3000
        self.own_calls: list[str] = []
        self.refused: list[str] = []
        made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        self.private_key = made.private_bytes(*form).decode()
        self._given: dict[str, dict[str, list[str]]] = {}
        self._revoked: set[str] = set()

    def boundary(self, token: str) -> list[tuple[str, list[str]]]:
        """The rules of a token: resources, and what may be done there."""
        return list(self._given[token].items())

    def revoke(self, *, keep: str) -> None:
        """All bound tokens that were given out until now are good for nothing, but for one."""
        self._revoked |= set(self._given) - {keep}

    def tokens(self) -> list[str]:
        """All bound tokens, in the order in which they were given out."""
        return list(self._given)

    def answer(self, asked: Asked) -> tuple[int, Any]:
        """OAuth and STS."""
        if asked.path == "/token":
            return 200, {"access_token": OWN, "expires_in": 3600, "token_type": "Bearer"}
        assert asked.fields["subject_token"] == OWN
        told = json.loads(unquote(asked.fields["options"]))["accessBoundary"]["accessBoundaryRules"]
        token = f"bound-google-token-{len(self._given)}."
        self._given[token] = {rule["availableResource"]: rule["availablePermissions"] for rule in told}
        kind = "urn:ietf:params:oauth:token-type:access_token"
        return 200, {
            "access_token": token,
            "token_type": "Bearer",
            "issued_token_type": kind,
            "expires_in": self.seconds,
        }

    def check(self, request: Request, call: Call) -> None:
        """Let a request pass that its token is good for."""
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if token == OWN:
            self.own_calls.append(call.operation)
            return
        if token not in self._given or token in self._revoked:
            raise ApiError(401, "AuthenticationRequired", "Invalid Credentials")
        if call.operation == "CopyObject":
            _, here, there = request.path.split("/b/")
            self._demand(token, unquote(here.partition("/")[0]), "objects.get")
            self._demand(token, unquote(there.partition("/")[0]), "objects.create")
        else:
            self._demand(token, call.bucket, _NEEDED[call.operation])

    def _demand(self, token: str, bucket: str, permission: str) -> None:
        roles = self._given[token].get(_BUCKET + bucket, [])
        if not any(permission in _ROLES[role.rpartition(".")[2]] for role in roles):
            self.refused.append(f"storage.{permission} on {bucket}")
            raise ApiError(403, "AccessDenied", f"the token has no {self.refused[-1]}")

    def connection(self, token_url: str) -> str:
        """A connection with a service account's key, as JSON for the environment."""
        key = {
            "type": "service_account",
            "client_email": "airflow@project.iam.gserviceaccount.com",
            "private_key": self.private_key,
            "private_key_id": "1",
            "project_id": "project",
            "token_uri": token_url,
        }
        return json.dumps({"conn_type": "google_cloud_platform", "extra": {"keyfile_dict": json.dumps(key)}})


@contextlib.contextmanager
def bounded_google(*buckets: str) -> Iterator[BoundedGoogle]:
    """Both, and ``google_cloud_default`` of a worker that reaches them.

    Tokens are bound where Google's own address is asked, so the server's takes its place when that is done.
    """
    made, resolve = BoundedGoogle(), gcp.gcs_config

    def redirected(*given: Any, **how: Any) -> StoreConfig:
        return msgspec.structs.replace(resolve(*given, **how), endpoint_url=made.server.endpoint_url)

    with (
        ObjectServer("gcs", buckets=buckets) as made.server,
        token_server(made.answer) as services,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(GcsProtocol, "authenticate", lambda _protocol, request, call: made.check(request, call))
        patch.setattr(google.auth.downscoped, "_STS_TOKEN_URL_PATTERN", f"{services.url}/sts?{{}}")
        patch.setattr(gcp, "gcs_config", redirected)
        patch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", made.connection(f"{services.url}/token"))
        yield made
