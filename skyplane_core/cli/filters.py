"""``--include``, ``--exclude`` and the other options that leave out some of a tree."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from skyplane_core.cli.values import age, size
from skyplane_core.filters import Filters, NameRule
from skyplane_core.manifest import read_manifest

F = TypeVar("F", bound=Callable[..., Any])

_ORDER = "skyplane_core.cli.filters.order"
_NAME_OPTIONS = {
    "include": (True, False),
    "exclude": (False, False),
    "include_regex": (True, True),
    "exclude_regex": (False, True),
}
"""Each option about names: whether it includes, and whether its value is a regular expression."""

_OPTIONS = [
    click.option(
        "--include", multiple=True, metavar="GLOB", help="Take these; asked in order with --exclude, the first decides."
    ),
    click.option("--exclude", multiple=True, metavar="GLOB", help="Leave these out; names are relative to SOURCE."),
    click.option("--include-regex", multiple=True, metavar="REGEX", help="As --include, for a regular expression."),
    click.option("--exclude-regex", multiple=True, metavar="REGEX", help="As --exclude, for a regular expression."),
    click.option("--min-size", type=size, metavar="SIZE", help="Leave out what is smaller."),
    click.option("--max-size", type=size, metavar="SIZE", help="Leave out what is larger."),
    click.option(
        "--min-age", type=age, metavar="AGE", help="Leave out what was written since, such as 15m, 36h or 7d."
    ),
    click.option("--max-age", type=age, metavar="AGE", help="Leave out what was written before."),
    click.option(
        "--manifest",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Only the objects whose keys are in this file, one a line, or in the key column of a .csv.",
    ),
    click.option("--max-objects", type=click.IntRange(1), metavar="N", help="Stop selecting after so many objects."),
    click.option("--max-bytes", type=size, metavar="SIZE", help="Stop selecting before more than so many bytes."),
]


class OrderedCommand(click.Command):
    """A command that remembers in which order its options were given."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click's."""
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        ctx.meta[_ORDER] = [parameter.name for parameter in order]
        return super().parse_args(ctx, args)


def filter_options(function: F) -> F:
    """Adds the options to a command, which has to be an :class:`OrderedCommand`."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def chosen_filters(given: dict[str, Any]) -> Filters:
    """Takes the options' values out of ``given`` and makes filters of them.

    Raises:
        UsageError: the manifest cannot be used.
    """
    values = {name: iter(given.pop(name)) for name in _NAME_OPTIONS}
    order = [name for name in click.get_current_context().meta[_ORDER] if name in values]
    manifest = given.pop("manifest")
    return Filters(
        rules=tuple(NameRule(_NAME_OPTIONS[name][0], next(values[name]), _NAME_OPTIONS[name][1]) for name in order),
        min_size=given.pop("min_size") or 0,
        max_size=given.pop("max_size"),
        min_age=given.pop("min_age") or 0.0,
        max_age=given.pop("max_age"),
        keys=read_manifest(manifest) if manifest is not None else None,
        max_objects=given.pop("max_objects") or 0,
        max_bytes=given.pop("max_bytes") or 0,
    )
