"""Pins the wheels of a gateway's bundle: a file under skyplane_core/provision/wheels for each Python and architecture.

Usage: .venv/bin/python scripts/lock_gateway.py     (scripts/lock calls it)

Each line is a wheel and its SHA-256, as pip's --require-hashes takes it. uv resolves, and pip tells which wheel it
would take, without installing it.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from skyplane_core.provision.bundle_build import ARCHITECTURES, LOCKS, PYTHONS, pip_target

# cryptography needs the C library that cffi's wheel holds, and not the parser with which cffi builds others.
UNUSED = ("pycparser",)


def resolve(python: str, arch: str, versions: Path, output: Path) -> None:
    command = [
        ".venv/bin/uv", "pip", "compile", "--quiet", "--no-header", "--no-emit-index-url", "--no-emit-find-links",
        "--no-annotate", "--only-binary", ":all:", "--python-version", python,
        "--python-platform", f"{arch}-manylinux_2_28", "--output-file", str(output), "requirements/gateway.in",
        *(f"--no-emit-package={name}" for name in UNUSED),
    ]  # fmt: skip
    # The versions that the tests run with, where they have a wheel for this Python.
    if subprocess.run([*command, "--constraint", str(versions)], check=False, capture_output=True).returncode != 0:
        subprocess.run(command, check=True)


def pin(python: str, arch: str, resolved: Path) -> list[str]:
    with tempfile.TemporaryDirectory() as nowhere:
        told = subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--dry-run",
             "--ignore-installed", "--report", "-", "--no-deps", "--target", nowhere,
             *pip_target(python, arch), "-r", str(resolved)],
            check=True, stdout=subprocess.PIPE,
        )  # fmt: skip
    lines = []
    for item in json.loads(told.stdout)["install"]:
        sha256 = item["download_info"]["archive_info"]["hashes"]["sha256"]
        lines.append(f"{item['metadata']['name'].lower()}=={item['metadata']['version']} --hash=sha256:{sha256}")
    return sorted(lines)


def main() -> None:
    LOCKS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        versions = Path(directory, "versions.txt")
        development = Path("requirements/dev-airflow-3.3-py311.txt").read_text().splitlines()
        versions.write_text("\n".join(line for line in development if "==" in line and line[0].isalnum()))
        for python in PYTHONS:
            for arch in ARCHITECTURES:
                resolved = Path(directory, "resolved.txt")
                resolved.unlink(missing_ok=True)
                resolve(python, arch, versions, resolved)
                lines = pin(python, arch, resolved)
                lock = LOCKS / f"{python}-{arch}.txt"
                lock.write_text("\n".join(lines) + "\n")
                print(f"{lock.name}: {len(lines)} wheels")


main()
