"""What a bundle is made of; that one can be built and runs is shown by tests/integration/ssh."""

from __future__ import annotations

import hashlib
import re
import zipfile
from pathlib import Path

import msgspec
import pytest

from skyplane_core.errors import ProvisionFailed, UsageError
from skyplane_core.provision import bundle, bundle_build
from skyplane_core.provision.bundle import Target
from skyplane_core.provision.bundle_build import ARCHITECTURES, PYTHONS, build

TARGET = Target("3.11", "x86_64")
WHEEL = "thing-1-cp311-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_target_has_the_same_pinned_libraries(python: str, arch: str) -> None:
    lines = bundle.lock_of(Target(python, arch)).splitlines()
    names = {line.split("==")[0] for line in lines}
    assert names >= {"aiohttp", "awscrt", "cramjam", "cryptography", "msgspec", "cffi"}
    assert all(re.fullmatch(r"[a-z0-9._-]+==\S+ --hash=sha256:[0-9a-f]{64}", line) for line in lines)
    cryptography = next(line for line in lines if line.startswith("cryptography=="))
    assert int(re.split(r"==|\.", cryptography)[1]) >= 50


def test_a_target_without_a_lock_is_told_what_there_is() -> None:
    with pytest.raises(UsageError, match=r"no gateway runs on Python 3\.9 x86_64.*3\.10 aarch64, 3\.10 x86_64"):
        bundle.lock_of(Target("3.9", "x86_64"))
    assert bundle.find(Target("3.9", "x86_64"), Path("/nowhere")) is None


def test_a_gateway_gets_the_engine_and_neither_test_tools_nor_the_command_line() -> None:
    names = set(bundle.own_files())
    assert {"__main__.py", "gateway/daemon.py", "skyplane_core/stores/s3.py", "skyplane_core/tls.py"} <= names
    assert not [name for name in names if "testing" in name or "/cli/" in name or name.startswith("airflow")]


@pytest.fixture
def one_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that holds the only wheel of the only target."""
    kept = tmp_path / "cache" / f"wheels-{TARGET.python}-{TARGET.arch}"
    kept.mkdir(parents=True)
    with zipfile.ZipFile(kept / WHEEL, "w") as wheel:
        for name in ("thing/__init__.py", "thing/stub.pyi", "thing/tests/test_it.py", "thing-1.dist-info/METADATA"):
            wheel.writestr(name, name)
        wheel.writestr("thing-1.dist-info/RECORD", "x")
    locks = tmp_path / "locks"
    locks.mkdir()
    sha256 = hashlib.sha256((kept / WHEEL).read_bytes()).hexdigest()
    (locks / "3.11-x86_64.txt").write_text(f"thing==1 --hash=sha256:{sha256}\n")
    monkeypatch.setattr(bundle, "LOCKS", locks)
    return tmp_path / "cache"


def test_a_bundle_is_built_once_and_holds_what_runs(one_wheel: Path) -> None:
    assert bundle.find(TARGET, one_wheel) is None
    built = build(TARGET, one_wheel)
    assert bundle.find(TARGET, one_wheel) == built
    assert bundle.available(one_wheel) == [TARGET]
    assert build(TARGET, one_wheel) == built
    content = built.path.read_bytes()
    assert (built.info.size, built.info.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert built.info.glibc == (2, 17)
    with zipfile.ZipFile(built.path) as archive:
        names = set(archive.namelist())
        assert built.info.unpacked == sum(member.file_size for member in archive.infolist())
    strangers = {name for name in names if not name.startswith(("gateway/", "skyplane_core/"))}
    assert strangers == {"__main__.py", "thing/__init__.py", "thing-1.dist-info/METADATA"}


def test_the_same_content_gives_the_same_bytes_and_other_code_another_bundle(
    one_wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build(TARGET, one_wheel)
    first.path.unlink()
    assert build(TARGET, one_wheel) == first
    own = {**bundle.own_files(), "gateway/more.py": b""}
    monkeypatch.setattr(bundle, "own_files", lambda: own)
    monkeypatch.setattr(bundle_build, "own_files", lambda: own)
    second = build(TARGET, one_wheel)
    assert second.info.sha256 != first.info.sha256
    # What no version of the code would use any more is not kept.
    kept = {second.path.name, second.path.with_suffix(".json").name, f"wheels-{TARGET.python}-{TARGET.arch}", "lock"}
    assert {path.name for path in one_wheel.iterdir()} == kept


def test_data_that_the_code_reads_is_carried_over() -> None:
    assert "skyplane_core/planner/prices.json" in bundle.own_files()


def test_a_note_that_was_cut_off_is_no_bundle(one_wheel: Path) -> None:
    built = build(TARGET, one_wheel)
    built.path.with_suffix(".json").write_bytes(msgspec.json.encode(built.info)[:-5])
    assert bundle.find(TARGET, one_wheel) is None
    built.path.write_bytes(b"")
    assert build(TARGET, one_wheel) == built


def test_a_wheel_that_is_not_the_pinned_one_is_refused(one_wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(_target: Target, _lock: str, directory: Path) -> None:
        directory.mkdir()
        (directory / WHEEL).write_bytes(b"something else")

    next(one_wheel.glob("wheels-*/*")).unlink()
    monkeypatch.setattr(bundle_build, "_fetch", fetch)
    with pytest.raises(ProvisionFailed, match=f"not the pinned ones.*{WHEEL}"):
        build(TARGET, one_wheel)
    assert bundle.available(one_wheel) == []


def test_pip_that_fetches_nothing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(ProvisionFailed, match="could not be fetched"):
        build(TARGET, tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["lock"]
