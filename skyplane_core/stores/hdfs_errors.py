"""What the HDFS client and the NameNode say, as errors of ours. The only place that knows their words.

The client raises Python's own exceptions. A NameNode's refusal is the text ``RPCError("class", "message")``, with the
Java class that it threw.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from skyplane_core.errors import (
    ObjectNotFound,
    PermissionDenied,
    SkyplaneError,
    StoreError,
    StoreRejected,
    StoreUnavailable,
    Unauthenticated,
)
from skyplane_core.stores.base import NEXT_FOR_MISSING

NEXT_FOR_CONFLICT = "A file system cannot hold both a file 'a' and files below 'a/'; map one of them elsewhere."
NEXT_FOR_DATANODES = (
    "See that DataNodes are up and have space, and that this machine reaches them: from outside of the cluster they "
    "may need other addresses (docs/hdfs.md)."
)
_NEXT_FOR_NAMENODE = "Check the NameNode's address and port, and that this machine reaches it."
_NEXT_FOR_RIGHTS = (
    "Give the user the right to that path, or be another one: HADOOP_USER_NAME, or the connection's login."
)
_NEXT_FOR_QUOTA = "Raise the directory's quota or free some of it, and run the transfer again."
_NEXT_FOR_KERBEROS = "Get a Kerberos ticket (kinit) for the user that runs the gateways, and run the transfer again."

_REFUSAL = re.compile(r'\w*RPCError\("([\w.$]+)", "(.*)"\)', re.DOTALL)
_WHY_LIMIT = 300


class _Meaning(NamedTuple):
    kind: type[StoreError]
    what: str
    next_step: str = ""


_UNREACHABLE = _Meaning(StoreUnavailable, "the NameNode does not answer", _NEXT_FOR_NAMENODE)
_NO_DATANODE = _Meaning(StoreUnavailable, "no DataNode takes or gives the bytes", NEXT_FOR_DATANODES)
_NOT_ALLOWED = _Meaning(PermissionDenied, "the user may not do that", _NEXT_FOR_RIGHTS)
_QUOTA = _Meaning(StoreRejected, "the quota is used up", _NEXT_FOR_QUOTA)
_NAME = _Meaning(StoreRejected, "HDFS takes no such name", "Exclude this object or give it another name.")
_CONFLICT = _Meaning(StoreRejected, "something else stands in the way", NEXT_FOR_CONFLICT)
_MISSING = _Meaning(ObjectNotFound, "the file does not exist", NEXT_FOR_MISSING)
_WHO = _Meaning(Unauthenticated, "the cluster does not know who is asking", _NEXT_FOR_KERBEROS)
_STANDBY = _Meaning(
    StoreUnavailable, "this NameNode is not the active one", "Name the nameservice instead of one host."
)
_REFUSED = _Meaning(StoreRejected, "HDFS refuses")

# By the last part of the class's name.
_BY_CLASS = {
    "AccessControlException": _NOT_ALLOWED,
    "AuthorizationException": _NOT_ALLOWED,
    "DSQuotaExceededException": _QUOTA,
    "NSQuotaExceededException": _QUOTA,
    "QuotaByStorageTypeExceededException": _QUOTA,
    "FileAlreadyExistsException": _CONFLICT,
    "FileNotFoundException": _MISSING,
    "InvalidPathException": _NAME,
    "MaxDirectoryItemsExceededException": _REFUSED,
    "ParentNotDirectoryException": _CONFLICT,
    "PathComponentTooLongException": _NAME,
    "PathIsNotEmptyDirectoryException": _CONFLICT,
    "NotReplicatedYetException": _NO_DATANODE,
    "RetriableException": _UNREACHABLE,
    "ServerTooBusyException": _UNREACHABLE,
    "SafeModeException": _Meaning(
        StoreUnavailable, "the NameNode is in safe mode", "Wait until it has left it, and run the transfer again."
    ),
    "StandbyException": _STANDBY,
    "LeaseExpiredException": _Meaning(StoreUnavailable, "somebody else took or removed the file while it was written"),
}
# By words, where the class tells nothing; the first that is in the text counts.
_BY_WORDS = (
    ("could only be replicated to", _NO_DATANODE),
    ("could only be written to", _NO_DATANODE),
    ("All DataNodes failed", _NO_DATANODE),
    ("DataTransferError", _NO_DATANODE),
    ("BlocksNotFound", _NO_DATANODE),
    ("Current inode is not a directory", _CONFLICT),
    ("must both be directories", _CONFLICT),
    ("SASL", _WHO),
    ("GSSAPI", _WHO),
    ("No NameNode hosts found", _UNREACHABLE),
)


@contextlib.contextmanager
def mapped(where: str, trouble: Callable[[], str] = str, *, bytes_move: bool = False) -> Iterator[None]:
    """Turn what the HDFS client raises within into an error of ours.

    Args:
        trouble: tells what is known besides, for the error's reason.
        bytes_move: the other end is a DataNode, not the NameNode.
    """
    try:
        yield
    except SkyplaneError:
        raise
    except Exception as error:
        raise error_of(error, where, trouble(), bytes_move=bytes_move) from error
    except BaseException as error:
        # The client's library ends a call by a panic where it meets what it does not expect.
        if type(error).__name__ != "PanicException":
            raise
        raise StoreUnavailable("the HDFS client failed", where=where, why=_first_line(str(error))) from error


def error_of(error: Exception, where: str, trouble: str, *, bytes_move: bool) -> StoreError:
    """The error of ours that says what ``error`` means."""
    text = str(error)
    meaning = _meaning(error, text) or (_NO_DATANODE if bytes_move else _UNREACHABLE)
    refusal = _REFUSAL.fullmatch(text)
    why = refusal[2].replace("\\n", "\n") if refusal else text
    why = "; ".join(part for part in (_first_line(why), trouble) if part)
    return meaning.kind(meaning.what, where=where, why=why, next_step=meaning.next_step)


def _meaning(error: Exception, text: str) -> _Meaning | None:
    """None: somebody could not be reached."""
    if isinstance(error, FileNotFoundError):
        return _MISSING
    if isinstance(error, (FileExistsError, IsADirectoryError, NotADirectoryError)):
        return _CONFLICT
    if isinstance(error, PermissionError):
        return _NOT_ALLOWED
    if isinstance(error, NotImplementedError):
        return _REFUSED
    refusal = _REFUSAL.fullmatch(text)
    known = _BY_CLASS.get(re.split(r"[.$]", refusal[1])[-1]) if refusal else None
    if known is not None:
        return known
    by_words = next((meaning for words, meaning in _BY_WORDS if words in text), None)
    return by_words or (None if isinstance(error, OSError) else _REFUSED)


def _first_line(text: str) -> str:
    return text.partition("\n")[0][:_WHY_LIMIT].strip()
