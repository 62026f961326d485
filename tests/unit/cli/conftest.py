"""The command line with a fake client, in a directory of its own."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from skyplane_core.cli import records
from skyplane_core.prepare import Prepared
from tests.unit.cli.fakes import DONE, RUNNING, FakeClient, Shell, reference


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Shell:
    shell = Shell(FakeClient(steps=[RUNNING, DONE]), [], tmp_path)

    def check(prepared: Prepared, *, create_directory: bool) -> None:
        assert create_directory
        assert not shell.client.events
        shell.checked.append(prepared)

    monkeypatch.setattr("skyplane_core.cli.run.check", check)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "src").mkdir()
    (tmp_path / "file").touch()
    return shell


@pytest.fixture
def left_behind(shell: Shell) -> Iterator[None]:
    """A record whose owner has died, ``dp-old``, and one of a command that is running, ``dp-busy``."""
    old = records.directory() / "dp-old.json"
    old.parent.mkdir(parents=True)
    old.write_bytes(msgspec.json.encode(reference("dp-old")))
    with records._locked(old.with_name("dp-busy.json"), msgspec.json.encode(reference("dp-busy"))):
        yield
