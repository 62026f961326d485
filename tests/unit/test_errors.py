from __future__ import annotations

import msgspec
import pytest

from skyplane_core import errors
from skyplane_core.errors import ErrorRecord, Retry, SkyplaneError, StoreUnavailable, Throttled, from_record


def everything(cls: type[SkyplaneError] = SkyplaneError) -> list[type[SkyplaneError]]:
    return [cls, *(found for sub in cls.__subclasses__() for found in everything(sub))]


@pytest.mark.parametrize("cls", everything(), ids=lambda cls: cls.__name__)
def test_every_error_survives_a_process_boundary(cls: type[SkyplaneError]) -> None:
    error = cls("it broke", where="s3://b/k", why="because", next_step="Do this.", retry_after=1.5)
    copy = from_record(msgspec.json.decode(msgspec.json.encode(error.record()), type=ErrorRecord))
    assert type(copy) is cls
    assert str(copy) == str(error) == "it broke [s3://b/k]: because. Do this."
    assert copy.retry is error.retry
    assert copy.retry_after == 1.5


def test_the_tree_at_the_top_of_the_module_names_every_error() -> None:
    drawn = errors.__doc__ or ""
    assert [cls.__name__ for cls in everything() if cls.__name__ not in drawn] == []


def test_an_unknown_kind_is_still_an_error() -> None:
    assert type(from_record(ErrorRecord("FromTheFuture", "x"))) is SkyplaneError


def test_traits_are_what_retrying_goes_by() -> None:
    assert StoreUnavailable("x").retry is Retry.RETRY
    assert Throttled("x").retry is Retry.THROTTLED
    assert errors.Unauthenticated("x").retry is Retry.AUTH
    assert errors.ChecksumMismatch("x").retry is Retry.CORRUPT
    assert errors.SourceChanged("x").retry is Retry.PERMANENT


@pytest.mark.parametrize(("what", "text"), [("no", "no. Go on."), ("no.", "no. Go on."), ("who?", "who? Go on.")])
def test_the_next_step_is_a_sentence_of_its_own(what: str, text: str) -> None:
    assert str(SkyplaneError(what, next_step="Go on.")) == text
