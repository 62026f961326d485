"""The provider on each Airflow minor: tests, provider discovery, imports. scripts/matrix calls it."""

import datetime
import json
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "docs" / "airflow-matrix.json"
PAGE = ROOT / "docs" / "compatibility.md"
BEGIN, END = "<!-- matrix -->\n", "<!-- /matrix -->\n"
DEVELOPED_ON = "3.3"
"""The minor of .venv, whose lock file is requirements/dev.in's."""
PROCESSES = ("--numprocesses=2", "--dist=loadgroup")
TESTS = ("tests/unit/airflow", "tests/integration/airflow")
SHOWN = ("apache-airflow", "apache-airflow-providers-amazon", "apache-airflow-providers-google",
         "apache-airflow-providers-microsoft-azure", "apache-airflow-providers-common-compat")  # fmt: skip
# Of Airflow's own modules about each other, not about how we call them. They come on top of those in pyproject.toml.
THEIRS = (
    "ignore::DeprecationWarning:airflow.providers.common.compat._compat_utils",
    "ignore::FutureWarning:airflow.providers.common.compat._compat_utils",
    "ignore:The anyio.abc.BlockingPortal alias is deprecated",
    "ignore:The ``noload`` loader strategy is deprecated",
)
IMPORTS = """
import importlib, json, pkgutil, warnings
import airflow_provider_skyplane as provider
names = sorted(module.name for module in pkgutil.walk_packages(provider.__path__, provider.__name__ + "."))
found = []
for name in names:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            # A page for the web server of the other Airflow.
            if name.rpartition(".")[2] not in ("fastapi_page", "flask_page", "stored_token"):
                raise
    ours = [w for w in caught if "airflow_provider_skyplane" in w.filename]
    found += [f"{name}: {w.category.__name__}: {w.message}" for w in ours]
print(json.dumps([len(names), found]))
"""


def minors() -> list[str]:
    """All with a lock file, oldest first."""
    locks = (ROOT / "requirements").glob("airflow-*-py311.txt")
    older = {path.name.removeprefix("airflow-").removesuffix("-py311.txt") for path in locks}
    return sorted(older | {DEVELOPED_ON}, key=lambda minor: [int(number) for number in minor.split(".")])


def python_of(minor: str) -> Path:
    """The interpreter that has this Airflow; installs it where it is missing."""
    if minor == DEVELOPED_ON:
        return ROOT / ".venv" / "bin" / "python"
    subprocess.run([ROOT / "scripts" / "setup", "--airflow", minor], check=True)
    return ROOT / f".venv-airflow-{minor}" / "bin" / "python"


def versions(python: Path) -> dict[str, str]:
    probe = (
        f"import importlib.metadata as m, json, platform; "
        f"print(json.dumps({{'python': platform.python_version(), **{{n: m.version(n) for n in {SHOWN!r}}}}}))"
    )
    told = subprocess.run([python, "-c", probe], check=True, capture_output=True, text=True)
    return dict(json.loads(told.stdout))


def tests(python: Path, junit: Path) -> dict[str, Any]:
    """Pytest's counts, and the names of what failed."""
    warnings = [argument for warning in THEIRS for argument in ("-W", warning)]
    command = [
        python,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        f"--junitxml={junit}",
        *PROCESSES,
        *warnings,
        *TESTS,
    ]
    subprocess.run(command, cwd=ROOT, check=False, stdin=subprocess.DEVNULL)
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    not_passed = []
    for case in ET.parse(junit).iter("testcase"):  # noqa: S314  # pytest wrote it a moment ago
        kinds = {child.tag for child in case}
        outcome = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        counts[outcome] += 1
        if outcome != "passed":
            not_passed.append(f"{outcome}: {case.get('classname')}::{case.get('name')}")
    return {**counts, "not_passed": not_passed}


def airflow_says(python: Path, home: str, *arguments: str) -> str:
    """What an ``airflow`` command prints; it must succeed."""
    environment = {**os.environ, "AIRFLOW_HOME": home, "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    told = subprocess.run(
        [python, "-m", "airflow", *arguments], env=environment, check=True, capture_output=True, text=True
    )
    return told.stdout


def discovery(python: Path) -> list[str]:
    """What Airflow does not find of this provider, or says of it wrongly."""
    with tempfile.TemporaryDirectory() as home:
        complaints = [
            f"{what}: no {word}"
            for what, word in (
                (("providers", "get", "airflow-provider-skyplane", "--full"), "airflow-provider-skyplane"),
                (("providers", "hooks"), "SkyplaneHook"),
                (("providers", "triggers"), "airflow_provider_skyplane.triggers.skyplane"),
            )
            if word not in airflow_says(python, home, *what, "--output", "json")
        ]
        option = airflow_says(python, home, "config", "get-value", "skyplane", "local_gateways_outlive_task")
    return complaints if option.strip().endswith("False") else [*complaints, f"config: {option!r}"]


def imports(python: Path) -> tuple[int, list[str]]:
    """How many modules there are, and the warnings that are about ours."""
    told = subprocess.run([python, "-c", IMPORTS], cwd=ROOT, check=True, capture_output=True, text=True)
    count, warned = json.loads(told.stdout.splitlines()[-1])
    return count, warned


def run(minor: str) -> dict[str, Any]:
    print(f"matrix: Airflow {minor}", flush=True)
    python = python_of(minor)
    with tempfile.TemporaryDirectory() as directory:
        tested = tests(python, Path(directory, "junit.xml"))
    count, warned = imports(python)
    commit = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, check=True, capture_output=True)
    return {
        "minor": minor,
        "versions": versions(python),
        "tests": tested,
        "modules_imported": count,
        "import_warnings": warned,
        "discovery_complaints": discovery(python),
        "commit": commit.stdout.decode().strip(),
        "date": datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat(),
    }


def good(result: dict[str, Any]) -> bool:
    return not (result["tests"]["failed"] or result["import_warnings"] or result["discovery_complaints"])


def table(results: list[dict[str, Any]]) -> str:
    lines = [
        "| Airflow | amazon, google, azure | passed | failed | skipped | modules imported | `airflow providers` | at |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        version, tested = result["versions"], result["tests"]
        providers = ", ".join(version[name] for name in SHOWN[1:4])
        shown = "misses something" if result["discovery_complaints"] else "shows all"
        lines.append(
            f"| {version['apache-airflow']} | {providers} | {tested['passed']} | {tested['failed']} "
            f"| {tested['skipped']} | {result['modules_imported']}, {len(result['import_warnings'])} warnings "
            f"| {shown} | {result['commit']}, {result['date']} |"
        )
    return "\n".join(lines) + "\n"


def write(results: list[dict[str, Any]]) -> None:
    RESULT.write_text(json.dumps(results, indent=2) + "\n")
    page = PAGE.read_text()
    before, rest = page.split(BEGIN)
    PAGE.write_text(before + BEGIN + table(results) + END + rest.split(END)[1])


def main() -> int:
    known = minors()
    chosen = sys.argv[1:] or known
    unknown = sorted(set(chosen) - set(known))
    if unknown:
        print(f"matrix: no lock file for {', '.join(unknown)} (there are: {', '.join(known)})", file=sys.stderr)
        return 2
    kept = {result["minor"]: result for result in json.loads(RESULT.read_text())} if RESULT.exists() else {}
    for minor in chosen:
        kept[minor] = run(minor)
        write([kept[each] for each in known if each in kept])
    bad = [minor for minor in chosen if not good(kept[minor])]
    print(f"matrix: {len(chosen)} run, {'all good' if not bad else 'NOT good: ' + ', '.join(bad)}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
