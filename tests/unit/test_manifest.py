from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyplane_core.errors import UsageError
from skyplane_core.manifest import manifest_keys, read_manifest
from skyplane_core.settings import delete_cap
from skyplane_core.spec import DeleteCap
from skyplane_core.units import parse_age


@pytest.mark.parametrize(
    ("name", "content", "keys"),
    [
        ("keys.txt", "b\na\n\na\n", ("a", "b")),
        ("keys", "a b\r\n c\r\n", (" c", "a b")),
        ("keys.txt", '\ufeffa,b\n%20\n"q"', ('"q"', "%20", "a,b")),
        ("keys.csv", 'Bucket, Key ,Size\nb,x/a,1\nb,"x,""b""\nc",2\n', ('x,"b"\nc', "x/a")),
        ("keys.CSV", "name,blob\na,b\n", ("a",)),
        ("keys.csv", "size,key\n1,é\n2\n3,\n", ("é",)),
    ],
)  # fmt: skip
def test_what_a_manifest_names(tmp_path: Path, name: str, content: str, keys: tuple[str, ...]) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode())
    assert read_manifest(path) == keys


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("keys.txt", b"", "names no object"),
        ("keys.txt", b"\n\r\n", "names no object"),
        ("keys.csv", b"key\n", "names no object"),
        ("keys.csv", b"", "no column with keys"),
        ("keys.csv", b"b,a\nx,y\n", "no column with keys"),
        ("keys.csv", b'key\n"a', "not CSV"),
        ("keys.txt", b"\xff", "not UTF-8"),
        ("keys.csv", b"key\n\xff", "not UTF-8"),
    ],
)
def test_what_is_no_manifest(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UsageError, match=told):
        read_manifest(path)


def test_a_manifest_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot be read.*missing"):
        read_manifest(tmp_path / "missing")
    with pytest.raises(UsageError, match="cannot be read"):
        read_manifest(tmp_path)


@given(st.lists(st.text(max_size=3), min_size=1).filter(any))
def test_keys_ascend_and_are_named_once(keys: list[str]) -> None:
    found = manifest_keys(keys)
    assert list(found) == sorted({key for key in keys if key})


@pytest.mark.parametrize(
    ("text", "cap"),
    [
        ("1000", DeleteCap(1000)), (0, DeleteCap(0)), ("10%", DeleteCap(None, 10)), ("0.5 %", DeleteCap(None, 0.5)),
        ("100%", DeleteCap(None, 100)),
    ],
)  # fmt: skip
def test_caps(text: str | int, cap: DeleteCap) -> None:
    assert delete_cap(text) == cap


@pytest.mark.parametrize("text", ["", "-1", "-5%", "101%", "many", "1.5", "%", "10%%", "1k", -3])
def test_what_is_no_cap(text: str | int) -> None:
    with pytest.raises(UsageError, match="max_delete cannot be"):
        delete_cap(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("1.5m", 90), ("36H", 129_600), ("7d", 604_800), (" 2 w ", 1_209_600)],
)
def test_ages(text: str, seconds: float) -> None:
    assert parse_age(text) == seconds


@pytest.mark.parametrize("text", ["", "-1", "1y", "d", "1 day", "1d2h", "inf"])
def test_what_is_no_age(text: str) -> None:
    with pytest.raises(ValueError, match="not an age"):
        parse_age(text)
