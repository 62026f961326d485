"""``matchGlob`` as the documentation of GCS describes it ("List objects and prefixes using glob")."""

from __future__ import annotations

import re

from skyplane_core.testing.objectserver.messages import ApiError

_TOKEN = re.compile(r"\*\*/|\*\*|\*|\?|\[[!^]?\]?[^\]]*\]|\{[^{}]*\}|.", re.DOTALL)
_ANY = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def glob_pattern(glob: str) -> re.Pattern[str]:
    """What has to match a whole key. Raises ApiError."""
    try:
        return re.compile("".join(map(_token, _TOKEN.findall(glob))), re.DOTALL)
    except re.error as error:
        raise ApiError(400, "InvalidArgument", f"not a glob: {error}") from None


def _token(token: str) -> str:
    if token in _ANY:
        return _ANY[token]
    if token.startswith("[") and len(token) > 1:
        negated = token[1] in "!^"
        inside = re.escape(token[2 if negated else 1 : -1]).replace(r"\-", "-")
        return f"[{'^/' if negated else ''}{inside}]"
    if token.startswith("{") and len(token) > 1:
        return f"(?:{'|'.join(glob_pattern(choice).pattern for choice in token[1:-1].split(','))})"
    return re.escape(token)
