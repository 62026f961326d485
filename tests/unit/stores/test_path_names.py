from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyplane_core.keys import check_key, folded, key_check
from skyplane_core.model import Attestation
from skyplane_core.stores.base import Capabilities
from skyplane_core.stores.local_names import file_system, name_rules
from skyplane_core.stores.path_names import path_refusal, windows_refusal

PATHS = Capabilities(Attestation.READ_BACK, keys_are_paths=True, max_key_bytes=4095)
ANY = Capabilities(Attestation.WHOLE)
MOUNTS = r"""22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 8:17 / /media/my\040stick rw,nosuid shared:2 - vfat /dev/sdb1 rw,uid=1000
31 22 0:40 / /mnt rw - cifs //server/share rw
32 31 8:33 / /mnt/inner rw - xfs /dev/sdc1 rw
33 22 0:41 / /twice rw - ext4 /dev/sdd1 rw
34 33 0:42 / /twice rw shared:7 master:1 - exfat /dev/sde1 rw
garbage
"""


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("", "empty"),
        ("/", "empty"),
        ("/a", "absolute"),
        ("a//b", "empty segment"),
        ("a/", ""),
        ("a//", "empty segment"),
        (".", "'.' or"),
        ("..", "'.' or"),
        ("../a", "'.' or '..'"),
        ("a/../b", "'.' or '..'"),
        ("a/..", "'.' or '..'"),
        ("a/./b", "'.' or '..'"),
        ("../", "'.' or '..'"),
        ("a\0b", "NUL"),
        ("..a", ""),
        ("a..", ""),
        (".a", ""),
        ("...", ""),
        ("é" * 127, ""),
        ("é" * 128, "longer than 255"),
        ("a/" + "b" * 256, "longer than 255"),
        ("a\\..\\b", ""),
        ("a\nb", ""),
    ],
)
def test_what_can_be_a_path(key: str, why: str) -> None:
    reason = path_refusal(key, 255)
    assert (why in reason) if why else not reason
    if key:
        assert (check_key(key, PATHS) is None) is not bool(why)
        assert check_key(key, ANY) is None or "\0" in key


@given(st.lists(st.sampled_from(["a", ".", "..", "", "é", "a.b", "\\"]), max_size=5).map("/".join))
def test_what_passes_lies_strictly_inside_and_is_shown_as_it_is(key: str) -> None:
    if path_refusal(key, 255):
        return
    path = os.path.normpath(f"/root/of/it/{key}")
    assert path.startswith("/root/of/it/")
    assert path == "/root/of/it/" + key.removesuffix("/")


@pytest.mark.parametrize(
    "key",
    [
        "con",
        "CON",
        "a/Nul",
        "nul.txt",
        "a/aux.b.c",
        "COM1",
        "lpt9.x",
        "com¹",
        "con .txt",
        "a.",
        "a ",
        "d./a",
        "a:b",
        "a\\b",
        "a?b",
        "a*b",
        'a"b',
        "a<b",
        "a>b",
        "a|b",
        "a\tb",
        "prn/a",
    ],
)
def test_what_windows_does_not_take(key: str) -> None:
    assert windows_refusal(key)


@pytest.mark.parametrize(
    "key", ["cons", "com", "com10", "com0", "nully.txt", "a.b", ".a", "a b", "é/日本", "d/", "aux_"]
)
def test_what_windows_takes(key: str) -> None:
    assert not windows_refusal(key)


def test_keys_that_fold_to_one_are_refused_but_for_the_first() -> None:
    check = key_check(Capabilities(Attestation.READ_BACK, folds_case=True))
    assert [bool(check(key)) for key in ("A/x", "a/X", "é", "e\u0301", "ß", "SS", "b", "A/x")] == [
        False, True, False, True, False, True, False, False,
    ]  # fmt: skip
    assert key_check(ANY)("A") is None


@given(st.text(max_size=5))
def test_folding_is_stable_and_blind_to_case(text: str) -> None:
    assert folded(text) == folded(folded(text))


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/data", "ext4"),
        ("/", "ext4"),
        ("/media/my stick/x", "vfat"),
        ("/media/my stick", "vfat"),
        ("/media/my", "ext4"),
        ("/mnt/x", "cifs"),
        ("/mnt/inner/x", "xfs"),
        ("/mnt/innermost", "cifs"),
        ("/twice/x", "exfat"),
    ],
)
def test_the_file_system_under_a_path(path: str, kind: str) -> None:
    assert file_system(path, MOUNTS) == kind
    assert file_system(path, "") == ""


def test_the_file_system_of_this_machine_is_asked(tmp_path: Path) -> None:
    probe = tmp_path / "Probe"
    probe.mkdir()
    assert name_rules(str(probe)).folds_case is (tmp_path / "pROBE").exists()
    assert name_rules(str(probe / "not" / "yet")) == name_rules(str(probe))
