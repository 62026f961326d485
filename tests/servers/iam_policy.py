"""A policy of AWS's as IAM reads it, as far as those of this project go: what is not allowed is denied."""

from __future__ import annotations

import json
import re


def as_iam_reads(pattern: str) -> re.Pattern[str]:
    """``*`` and ``?`` are wildcards, ``${*}`` is the character itself."""
    parts = re.findall(r"\$\{([*?$])\}|(.)", pattern, re.DOTALL)
    text = "".join(re.escape(own) if own else {"*": ".*", "?": "."}.get(c, re.escape(c)) for own, c in parts)
    return re.compile(text, re.DOTALL)


def allows(policy: str, action: str, resource: str) -> bool:
    """Whether a policy lets an action be done to a resource, by its ARN."""
    return any(
        action in statement["Action"] and as_iam_reads(statement["Resource"]).fullmatch(resource)
        for statement in json.loads(policy)["Statement"]
    )
