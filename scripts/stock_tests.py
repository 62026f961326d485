"""The stock transfer operators' own unit tests, run with our classes. scripts/stock-tests calls it."""

import ast
import dataclasses
import datetime
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ET
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / ".work" / "stock-tests"
SITE = WORK / "site"
# What those tests import beside the providers.
HELPERS = ("time-machine",)
RESULT = ROOT / "docs" / "stock-tests.json"
PAGE = ROOT / "docs" / "compatibility.md"
REASONS = ROOT / "scripts" / "stock_tests_reasons.json"
EXAMPLES = ROOT / "tests" / "integration" / "airflow" / "official_examples.py"
BEGIN, END = "<!-- stock tests -->\n", "<!-- /stock tests -->\n"


@dataclasses.dataclass(frozen=True)
class Suite:
    """One stock operator: its module, our module's name, and its tests in the provider's archive."""

    name: str
    stock: str
    ours: str
    provider: str
    tests: str
    only: str = ""


GOOGLE, AMAZON, AZURE = (f"apache-airflow-providers-{name}" for name in ("google", "amazon", "microsoft-azure"))
SUITES = [
    Suite("S3ToGCSOperator", "airflow.providers.google.cloud.transfers.s3_to_gcs", "s3_to_gcs", GOOGLE,
          "unit/google/cloud/transfers/test_s3_to_gcs.py"),
    Suite("GCSToGCSOperator", "airflow.providers.google.cloud.transfers.gcs_to_gcs", "gcs_to_gcs", GOOGLE,
          "unit/google/cloud/transfers/test_gcs_to_gcs.py"),
    Suite("AzureBlobStorageToGCSOperator", "airflow.providers.google.cloud.transfers.azure_blob_to_gcs",
          "azure_blob_to_gcs", GOOGLE, "unit/google/cloud/transfers/test_azure_blob_to_gcs.py"),
    Suite("GCSToS3Operator", "airflow.providers.amazon.aws.transfers.gcs_to_s3", "gcs_to_s3", AMAZON,
          "unit/amazon/aws/transfers/test_gcs_to_s3.py"),
    Suite("AzureBlobStorageToS3Operator", "airflow.providers.amazon.aws.transfers.azure_blob_to_s3",
          "azure_blob_to_s3", AMAZON, "unit/amazon/aws/transfers/test_azure_blob_to_s3.py"),
    Suite("S3CopyObjectOperator", "airflow.providers.amazon.aws.operators.s3", "s3_copy_object", AMAZON,
          "unit/amazon/aws/operators/test_s3.py", only="TestS3CopyObjectOperator"),
    Suite("S3ToAzureBlobStorageOperator", "airflow.providers.microsoft.azure.transfers.s3_to_wasb", "s3_to_wasb", AZURE,
          "unit/microsoft/azure/transfers/test_s3_to_wasb.py"),
    Suite("GCSToAzureBlobStorageOperator", "airflow.providers.microsoft.azure.transfers.gcs_to_wasb", "gcs_to_wasb",
          AZURE, "unit/microsoft/azure/transfers/test_gcs_to_wasb.py"),
]  # fmt: skip


def pip(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def tests_of(provider: str) -> Path:
    """The directory ``tests`` of the installed version's source archive; downloads it once."""
    version = importlib.metadata.version(provider)
    stem = f"{provider.replace('-', '_')}-{version}"
    if not (WORK / stem / "tests").is_dir():
        pip("download", "--no-deps", "--no-binary", ":all:", "--dest", WORK, f"{provider}=={version}")
        with tarfile.open(WORK / f"{stem}.tar.gz") as archive:
            archive.extractall(WORK, filter="data")
    return WORK / stem / "tests"


def helpers() -> None:
    if not SITE.is_dir():
        pip("install", "--no-deps", "--target", SITE, *HELPERS)


def run(suite: Suite) -> dict[str, str]:
    """Outcome by test; for one that did not pass, the first line of its error after a colon."""
    tests = tests_of(suite.provider)
    junit = WORK / f"{suite.name}.xml"
    junit.unlink(missing_ok=True)
    chosen = str(tests / suite.tests) + (f"::{suite.only}" if suite.only else "")
    home = WORK / "airflow"
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "AWS_", "GOOGLE"))
    }
    environment |= {
        "PYTHONPATH": f"{tests}:{SITE}:{ROOT}", "AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull, "AWS_EC2_METADATA_DISABLED": "true",
        "NO_GCE_CHECK": "true", "CLOUDSDK_CONFIG": str(WORK / "gcloud"),
    }  # fmt: skip
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--noconftest", "-c", os.devnull, f"--rootdir={tests}", "--tb=short",
         "-p", "no:cacheprovider", "-p", "scripts.stock_plugin", "--import-mode=importlib", "--timeout=120",
         f"--junitxml={junit}", chosen],
        cwd=WORK, env=environment, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    outcomes = {}
    for case in ET.parse(junit).iter("testcase"):  # noqa: S314  # pytest wrote it a moment ago
        bad = next((child for child in case if child.tag in ("failure", "error", "skipped")), None)
        said = "" if bad is None else (bad.get("message") or "").strip().splitlines()[:1]
        outcomes[str(case.get("name"))] = "passed" if bad is None else f"{bad.tag}: {''.join(said)[:200]}"
    return outcomes


def transfer_tasks(source: str) -> dict[str, tuple[str, dict[str, str]]]:
    """By task id, the operator and its arguments as they are written, of each operator among the suites'."""
    names, found = {suite.name for suite in SUITES}, {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
            arguments = {str(keyword.arg): ast.unparse(keyword.value) for keyword in node.keywords}
            found[ast.literal_eval(arguments.pop("task_id"))] = (node.func.id, arguments)
    return found


def examples() -> tuple[int, list[str]]:
    """How many tasks of ours there are after the official examples', and what is written otherwise there."""
    text = EXAMPLES.read_text()
    ours, theirs = transfer_tasks(text), {}
    for provider, path in re.findall(r"# From (\S+)'s (tests/system/\S+)", text):
        theirs |= transfer_tasks((tests_of(f"apache-airflow-providers-{provider}").parent / path).read_text())
    wrong = [f"example: task {task} differs: {ours.get(task)} {theirs.get(task)}" for task in ours | theirs
             if ours.get(task) != theirs.get(task)]  # fmt: skip
    return len(ours), wrong


def reason_of(test: str, reasons: dict[str, str]) -> str:
    """What is written down for a test, or for all of its parameters."""
    return reasons.get(test) or reasons.get(test.split("[", 1)[0], "")


def main() -> int:
    WORK.mkdir(parents=True, exist_ok=True)
    helpers()
    known = json.loads(REASONS.read_text())
    results, wrong = [], []
    for suite in SUITES:
        print(f"stock-tests: {suite.name}", flush=True)
        outcomes, reasons = run(suite), known["operators"].get(suite.name, {})
        others = []
        for test, outcome in outcomes.items():
            reason = reason_of(test, reasons)
            if outcome == "passed":
                wrong += [f"{suite.name}: {test} passes, though a reason is written down"] if reason else []
                continue
            others.append({"test": test, "outcome": outcome, "reason": reason})
            wrong += [] if reason in known["reasons"] else [f"{suite.name}: {test}: {outcome} (reason: {reason!r})"]
        results.append(
            {
                "operator": suite.name,
                "provider": f"{suite.provider} {importlib.metadata.version(suite.provider)}",
                "tests": len(outcomes),
                "passed": len(outcomes) - len(others),
                "others": others,
            }
        )
    count, otherwise = examples()
    wrong += otherwise
    write(results, known["reasons"], count)
    print("\n".join(wrong))
    passed, tests = (sum(result[what] for result in results) for what in ("passed", "tests"))
    print(f"stock-tests: {passed} of {tests} pass; {len(wrong)} unexplained")
    return 1 if wrong else 0


def write(results: list[dict], reasons: dict[str, str], example_tasks: int) -> None:
    date = datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat()
    RESULT.write_text(
        json.dumps({"date": date, "reasons": reasons, "example_tasks": example_tasks, "operators": results}, indent=2)
        + "\n"
    )
    lines = ["| stock operator | its tests | pass with ours | the others, by reason |", "|---|---|---|---|"]
    for result in results:
        counts: dict[str, int] = {}
        for other in result["others"]:
            counts[other["reason"]] = counts.get(other["reason"], 0) + 1
        told = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))
        lines.append(f"| `{result['operator']}` | {result['tests']} | {result['passed']} | {told or 'none'} |")
    lines += ["", *(f"- {reason}: {text}" for reason, text in reasons.items())]
    page = PAGE.read_text()
    before, rest = page.split(BEGIN)
    PAGE.write_text(before + BEGIN + "\n".join(lines) + "\n" + END + rest.split(END)[1])


if __name__ == "__main__":
    sys.exit(main())
