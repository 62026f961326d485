import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyplane_core.cli.values import clean, endpoint_url, parse_size, readable, transfer_id


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1), ("16B", 16), ("16M", 16 << 20), ("16MiB", 16 << 20), ("16mib", 16 << 20), ("16 MB", 16_000_000),
        ("1.5K", 1536), ("2G", 2 << 30), ("1TiB", 1 << 40),
    ],
)  # fmt: skip
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "x", "-1", "0", "0.1", "1e9", "1P", "1 M B", "MiB"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="size"):
        parse_size(text)


@pytest.mark.parametrize("text", ["host:9000", "ftp://host", "http://", "https://key:secret@host", "http://[::1", "s3"])
def test_what_is_no_endpoint_url(text: str) -> None:
    with pytest.raises(click.BadParameter):
        endpoint_url(text)


def test_endpoint_urls() -> None:
    assert endpoint_url("http://127.0.0.1:9000") == "http://127.0.0.1:9000"
    assert not endpoint_url("")


def test_transfer_ids() -> None:
    assert transfer_id("0123456789abcdef" * 2) == "0123456789abcdef" * 2
    with pytest.raises(click.BadParameter, match="32"):
        transfer_id("../x")


@given(st.text())
def test_nothing_that_a_terminal_obeys_is_printed(text: str) -> None:
    assert clean(text).isprintable()
    assert clean("a ключ") == "a ключ"
    first, *others = readable(text).split("\n")
    assert first.isprintable()
    assert all(line.isprintable() and line.startswith("  ") for line in others)
    assert len(others) == text.count("\n")


def test_an_escape_sequence_is_shown_and_not_obeyed() -> None:
    assert clean("a\x1b[2Jb\n") == "a\\x1b[2Jb\\n"
