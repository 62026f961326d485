"""The credentials that a server accepts, and which of them have expired."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping, Sequence

Secrets = Mapping[str, "str | Sequence[str]"]
"""Access key to secret, or to ``(secret, session token)``."""


@dataclasses.dataclass(frozen=True)
class Secret:
    """``token`` is the session token that must come with this key; "" for a long-lived key."""

    secret: str
    token: str = ""

    def __repr__(self) -> str:
        return "Secret(redacted)"


class Keyring:
    """Thread-safe. With nothing in it, nobody is asked for credentials.

    Args:
        credentials: HMAC keys; Azure: account name to base64 account key.
        tokens: OAuth2 bearer tokens (GCS, Azure).
        public_keys: signer (service account e-mail) to PEM public key, for RSA-signed URLs (GCS).
    """

    def __init__(
        self,
        credentials: Secrets | None = None,
        tokens: Sequence[str] = (),
        public_keys: Mapping[str, str] | None = None,
    ) -> None:
        self._lock = threading.Lock()
        self.replace(credentials, tokens, public_keys)

    def replace(
        self,
        credentials: Secrets | None = None,
        tokens: Sequence[str] = (),
        public_keys: Mapping[str, str] | None = None,
    ) -> None:
        """Accept exactly these from now on; none of them counts as expired."""
        secrets = {
            access: Secret(value) if isinstance(value, str) else Secret(value[0], value[1])
            for access, value in (credentials or {}).items()
        }
        with self._lock:
            self._secrets = secrets
            self._tokens = frozenset(tokens)
            self._public_keys = dict(public_keys or {})
            self._expired: set[str] = set()

    @property
    def open(self) -> bool:
        """Nobody is asked for credentials."""
        return not (self._secrets or self._tokens or self._public_keys)

    def secret(self, access: str) -> Secret | None:
        """What belongs to an access key, None if it is unknown."""
        return self._secrets.get(access)

    def has_token(self, token: str) -> bool:
        """A bearer token is one of ours; it may have expired."""
        return token in self._tokens

    def public_key(self, signer: str) -> str | None:
        """The PEM public key of a signer of URLs."""
        return self._public_keys.get(signer)

    def expire(self, identity: str) -> None:
        """An access key or bearer token is expired from now on."""
        with self._lock:
            self._expired.add(identity)

    def expired(self, identity: str) -> bool:
        """Whether :meth:`expire` was called for it since the last :meth:`replace`."""
        with self._lock:
            return identity in self._expired
