import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from skyplane_core.control_secret import control_secret, default_path
from skyplane_core.errors import UsageError
from skyplane_core.identity import DataplaneIdentity, new_dataplane_id


def test_a_secret_is_made_once_and_is_good_for_an_identity(tmp_path):
    path = tmp_path / "new" / "control-secret"
    secret = control_secret(path)
    assert control_secret(path) == secret
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [entry.name for entry in path.parent.iterdir()] == ["control-secret"]
    DataplaneIdentity(secret, new_dataplane_id())


def test_concurrent_first_calls_agree(tmp_path):
    path = tmp_path / "control-secret"
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: control_secret(path), range(32)))) == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["control-secret"]


def test_a_place_where_nothing_can_be_written_is_named_with_the_next_step(tmp_path):
    (tmp_path / "file").write_text("not a directory")
    path = tmp_path / "file" / "skyplane" / "control-secret"
    with pytest.raises(UsageError, match=r"control-secret\]: Not a directory\. Let XDG_CONFIG_HOME name"):
        control_secret(path)


def test_white_space_does_not_count(tmp_path):
    path = tmp_path / "control-secret"
    path.write_text("  abc\n\n")
    path.chmod(0o600)
    assert control_secret(path) == b"abc"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
def test_a_secret_that_others_may_read_is_refused(tmp_path, mode):
    path = tmp_path / "control-secret"
    control_secret(path)
    path.chmod(mode)
    with pytest.raises(UsageError, match="chmod 600"):
        control_secret(path)


def test_an_empty_or_endless_secret_is_refused(tmp_path):
    path = tmp_path / "control-secret"
    for content in (" \n", "x" * 5000):
        path.write_text(content)
        path.chmod(0o600)
        with pytest.raises(UsageError):
            control_secret(path)


def test_a_fifo_or_a_directory_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "fifo", 0o600)
    with pytest.raises(UsageError, match="regular"):
        control_secret(tmp_path / "fifo")
    with pytest.raises((UsageError, IsADirectoryError)):
        control_secret(tmp_path)


def test_the_default_is_in_the_configuration_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert default_path() == tmp_path / "skyplane" / "control-secret"
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_path() == tmp_path / ".config" / "skyplane" / "control-secret"
