"""The commands of ``skyplane``, and how each way of ending becomes an exit code."""

from __future__ import annotations

import os
import sys
from importlib.metadata import PackageNotFoundError, version

import click

from skyplane_core.cli.bundle import bundle
from skyplane_core.cli.context import Context, make_show
from skyplane_core.cli.dataplanes import deprovision, status
from skyplane_core.cli.exits import as_error, exit_of
from skyplane_core.cli.transfer import cp, sync
from skyplane_core.errors import SkyplaneError, UsageError


def _version() -> str:
    try:
        return version("airflow-provider-skyplane")
    except PackageNotFoundError:
        return "unknown (run from a source tree)"


@click.group(no_args_is_help=False, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(_version(), prog_name="skyplane")
def cli() -> None:
    """Move objects between clouds: parallel, verified, resumable, encrypted end to end.

    Exit codes: 0 done, 1 some objects failed, 2 wrong usage, 3 could not start or reach something, 4 cancelled.
    """


for command in (cp, sync, status, deprovision, bundle):
    cli.add_command(command)


def run(argv: list[str], context: Context | None = None) -> int:
    """Run the command that ``argv`` (without the program's name) holds; every ending is an exit code of ours."""
    try:
        # Not cli.main(): that one turns a closed stdout into exit code 1, which here means something else.
        with cli.make_context("skyplane", list(argv), obj=context) as parsed:
            return int(cli.invoke(parsed))
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        where = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "skyplane"
        return fail(argv, UsageError(error.format_message(), next_step=f"See: {where} --help"))
    except BrokenPipeError as error:
        # Python would try to flush stdout once more at exit, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(exit_of(error))
    except (SkyplaneError, KeyboardInterrupt, OSError) as error:
        return fail(argv, error)


def fail(argv: list[str], error: BaseException) -> int:
    """Say why the command that ``argv`` holds did not work; returns its exit code."""
    make_show(json=_wants_json(argv)).error(as_error(error))
    return int(exit_of(error))


def _wants_json(argv: list[str]) -> bool:
    """The last of --json and --no-json; an error may come before click has looked at them."""
    for argument in reversed(argv):
        if argument in ("--json", "--no-json"):
            return argument == "--json"
    return not sys.stdout.isatty()
