import pytest

from skyplane_core.cli.exits import Exit, as_error, exit_of
from skyplane_core.errors import (
    BucketNotFound,
    GatewayUnreachable,
    InvalidURI,
    NothingToTransfer,
    ObjectNotFound,
    PermissionDenied,
    ProvisionFailed,
    SkyplaneError,
    TransferCancelled,
    TransferFailed,
    TransferStalled,
    Unauthenticated,
    UsageError,
)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("x"), Exit.USAGE),
        (InvalidURI("x"), Exit.USAGE),
        (NothingToTransfer("x"), Exit.USAGE),
        (TransferFailed("x"), Exit.FAILED),
        (TransferStalled("x"), Exit.FAILED),
        (TransferCancelled("x"), Exit.CANCELLED),
        (KeyboardInterrupt(), Exit.CANCELLED),
        (BrokenPipeError(), Exit.CANCELLED),
        (ProvisionFailed("x"), Exit.START),
        (GatewayUnreachable("x"), Exit.START),
        (BucketNotFound("x"), Exit.START),
        (ObjectNotFound("x"), Exit.START),
        (PermissionDenied("x"), Exit.START),
        (Unauthenticated("x"), Exit.START),
        (OSError("x"), Exit.START),
    ],
)
def test_which_error_is_which_code(error: BaseException, code: Exit) -> None:
    assert exit_of(error) is code
    assert exit_of(as_error(error)) in (code, Exit.START)


def test_codes_are_a_contract() -> None:
    assert {code.name: int(code) for code in Exit} == {"OK": 0, "FAILED": 1, "USAGE": 2, "START": 3, "CANCELLED": 4}


def test_every_error_has_a_text() -> None:
    error = SkyplaneError("what")
    assert as_error(error) is error
    assert "cancelled" in str(as_error(KeyboardInterrupt()))
    assert "nobody reads" in str(as_error(BrokenPipeError()))
    assert str(as_error(PermissionError(13, "Permission denied", "/x"))) == "Permission denied [/x]"
    assert str(as_error(OSError("odd"))) == "odd"
    assert str(as_error(ValueError("odd"))) == "odd"
