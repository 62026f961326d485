"""Addresses of Azure Blob Storage: the ways in which its tools write them, as account/container and key. Pure.

===============================================  =========================================================
``az://account/container/key``, ``azure://…``    what our own messages show; the key is taken byte for byte
``abfs[s]://container@account.dfs.…/key``        Hadoop's, likewise ``wasb[s]://container@account.blob.…``
``https://account.blob.core.windows.net/…/key``  what the portal shows; percent-decoded, never with a query
===============================================  =========================================================
"""

from __future__ import annotations

import re
from typing import NoReturn
from urllib.parse import unquote

from skyplane_core.errors import InvalidURI

_ACCOUNT = re.compile(r"[a-z0-9]{3,24}")
# https://learn.microsoft.com/rest/api/storageservices/naming-and-referencing-containers--blobs--and-metadata
_CONTAINER = re.compile(r"(?=.{3,63}\Z)[a-z0-9]+(?:-[a-z0-9]+)*|\$root|\$web|\$logs")
_HOST = re.compile(r"([^.:/@]*)\.(?:blob|dfs)\.core\.windows\.net", re.IGNORECASE)
_ELSEWHERE = re.compile(
    r"\.(?:blob|dfs)\.(?:core\.chinacloudapi\.cn|core\.usgovcloudapi\.net|core\.cloudapi\.de|storage\.azure\.net)\Z",
    re.IGNORECASE,
)
_FORM = "Write az://account/container/key."


def from_path(text: str, scheme: str, rest: str) -> tuple[str, str]:
    """``account/container`` and key of ``az://account/container/key``.

    Args:
        text: the whole URI, for messages.
        rest: what follows ``scheme://``.

    Raises:
        InvalidURI: a part is missing, or no account or container can have that name.
    """
    account, slash, path = rest.partition("/")
    if not account:
        _refuse("the name of the storage account is missing", text)
    container, _, key = path.partition("/")
    if not (slash and container):
        _refuse("the name of the container is missing", text, f"Write {scheme}://account/container/key.")
    return _bucket(text, account, container), key


def from_authority(text: str, scheme: str, rest: str) -> tuple[str, str]:
    """The same of ``abfs://container@account.dfs.core.windows.net/key`` and its like."""
    authority, _, key = rest.partition("/")
    container, at, host = authority.partition("@")
    known = _HOST.fullmatch(host)
    if not at or known is None:
        service = "blob" if scheme.startswith("wasb") else "dfs"
        _refuse_elsewhere(text, host)
        _refuse(
            "not the address of a container",
            text,
            f"Write {scheme}://container@account.{service}.core.windows.net/key, or az://account/container/key.",
        )
    return _bucket(text, known[1].lower(), container), key


def is_web_host(rest: str) -> bool:
    """Whether what follows ``https://`` names a host of Azure Blob Storage, in any of its clouds."""
    host = _host(rest)
    return _HOST.fullmatch(host) is not None or _ELSEWHERE.search(host) is not None


def from_web_address(text: str, rest: str) -> tuple[str, str]:
    """The same of ``https://account.blob.core.windows.net/container/key``."""
    if "?" in text:
        # Nothing after the mark is shown: a signature is a secret.
        _refuse(
            "a web address with a query is not a place",
            text.partition("?")[0],
            "Give a SAS token as AZURE_STORAGE_SAS_TOKEN or in the connection; a ? in a key is written %3F here.",
        )
    _refuse_elsewhere(text, _host(rest))
    host, _, path = rest.partition("/")
    known = _HOST.fullmatch(host.removesuffix(":443"))
    if known is None:
        _refuse("not the address of a container", text, "Write https://account.blob.core.windows.net/container/key.")
    try:
        container, _, key = (unquote(part, errors="strict") for part in path.partition("/"))
    except UnicodeDecodeError:
        _refuse("the address is not valid UTF-8 once it is percent-decoded", text)
    if not container:
        _refuse("the name of the container is missing", text)
    if "\0" in key:
        _refuse("a NUL character cannot be part of a URI", text)
    return _bucket(text, known[1].lower(), container), key


def _host(rest: str) -> str:
    return re.split("[/:?]", rest, maxsplit=1)[0].lower()


def _bucket(text: str, account: str, container: str) -> str:
    if not _ACCOUNT.fullmatch(account):
        _refuse(
            f"{account!r} is not the name of a storage account, which has 3 to 24 lower-case letters and digits", text
        )
    if not _CONTAINER.fullmatch(container):
        _refuse(
            f"{container!r} is not the name of a container, which has 3 to 63 lower-case letters, digits and single "
            "hyphens between them",
            text,
        )
    return f"{account}/{container}"


def _refuse_elsewhere(text: str, host: str) -> None:
    if _ELSEWHERE.search(host):
        _refuse(
            "a storage account outside of core.windows.net",
            text,
            f"{_FORM[:-1]}, and give https://{host} as its endpoint URL.",
        )


def _refuse(what: str, text: str, next_step: str = _FORM) -> NoReturn:
    raise InvalidURI(what, where=text, next_step=next_step)
