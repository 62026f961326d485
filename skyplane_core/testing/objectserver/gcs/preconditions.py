"""Generation preconditions, from a query (JSON API) or from headers (XML API)."""

from __future__ import annotations

import dataclasses

from skyplane_core.testing.objectserver.messages import ApiError, Request
from skyplane_core.testing.objectserver.state import StoredObject


@dataclasses.dataclass(frozen=True)
class Preconditions:
    """None: not asked for. A generation of 0 stands for "there is no object"."""

    generation_match: int | None = None
    generation_not_match: int | None = None
    metageneration_match: int | None = None
    metageneration_not_match: int | None = None

    @property
    def any(self) -> bool:
        """Something was asked for."""
        return self != Preconditions()

    def __call__(self, current: StoredObject | None) -> None:
        """As a condition of a write: raise 412 unless it holds for the object that is there."""
        failed = self._failed(current)
        if failed:
            raise ApiError(
                412, "PreconditionFailed", f"At least one of the pre-conditions you specified did not hold: {failed}"
            )

    def check_read(self, current: StoredObject) -> None:
        """As a condition of a read: a failed "not match" is 304, the others 412."""
        failed = self._failed(current)
        if failed.endswith("NotMatch"):
            raise ApiError(304, "NotModified", "the object has not changed")
        if failed:
            self(current)

    def _failed(self, current: StoredObject | None) -> str:
        generation = current.generation if current is not None else 0
        metageneration = current.metageneration if current is not None else 0
        if self.generation_match is not None and self.generation_match != generation:
            return "ifGenerationMatch"
        if self.metageneration_match is not None and self.metageneration_match != metageneration:
            return "ifMetagenerationMatch"
        if self.generation_not_match is not None and self.generation_not_match == generation:
            return "ifGenerationNotMatch"
        if self.metageneration_not_match is not None and self.metageneration_not_match == metageneration:
            return "ifMetagenerationNotMatch"
        return ""


def from_query(request: Request, source: str = "") -> Preconditions:
    """``ifGenerationMatch`` and its kin; ``source`` is ``Source`` for those on the source of a copy."""
    query = request.query
    names = ("GenerationMatch", "GenerationNotMatch", "MetagenerationMatch", "MetagenerationNotMatch")
    return Preconditions(*(_number(query.get(f"if{source}{name}")) for name in names))


def from_headers(request: Request, source: str = "") -> Preconditions:
    """``x-goog-if-generation-match`` and its kin; ``source`` is ``copy-source-`` for those on the source of a copy."""
    headers = request.headers
    return Preconditions(
        _number(headers.get(f"x-goog-{source}if-generation-match")),
        None,
        _number(headers.get(f"x-goog-{source}if-metageneration-match")),
        None,
    )


def _number(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        raise ApiError(400, "InvalidArgument", f"not a generation: {text!r}") from None
