"""Options of ``cp`` and ``sync`` that say what becomes of attributes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from skyplane_core.model import AttributeRules, Unfit

F = TypeVar("F", bound=Callable[..., Any])


def _pairs(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = [value.partition("=") for value in values]
    for name, equals, _ in pairs:
        if not name or not equals:
            raise click.BadParameter(f"{name!r} is not NAME=VALUE")
    return {name: value for name, _, value in pairs}


_OPTIONS = [
    click.option("--content-type", metavar="TYPE", default="", help="Of every copy. Default: the source's."),
    click.option("--cache-control", metavar="VALUE", default="", help="Of every copy. Default: the source's."),
    click.option("--content-disposition", metavar="VALUE", default="", help="Of every copy. Default: the source's."),
    click.option("--content-encoding", metavar="VALUE", default="", help="Of every copy. Default: the source's."),
    click.option("--content-language", metavar="VALUE", default="", help="Of every copy. Default: the source's."),
    click.option(
        "--tag",
        "tags",
        multiple=True,
        callback=_pairs,
        metavar="NAME=VALUE",
        help="A tag that every copy gets. May be repeated.",
    ),
    click.option(
        "--metadata",
        "metadata",
        multiple=True,
        callback=_pairs,
        metavar="NAME=VALUE",
        help="Metadata that every copy gets. May be repeated.",
    ),
    click.option(
        "--metadata-rename",
        multiple=True,
        callback=_pairs,
        metavar="OLD=NEW",
        help="Another name for metadata. May be repeated.",
    ),
    click.option(
        "--metadata-drop",
        multiple=True,
        metavar="PATTERN",
        help="Metadata that is left out, such as x-*. May be repeated.",
    ),
    click.option("--storage-class", metavar="NAME", default="", help="Of every copy. Default: the destination's."),
    click.option("--keep-storage-class", is_flag=True, help="Give copies the source's storage class."),
    click.option("--keep-tags", is_flag=True, help="Carry tags over: one more request for each object."),
    click.option("--keep-mtime", is_flag=True, help="Carry times of modification over. Default: the time of writing."),
    click.option("--keep-mode", is_flag=True, help="Carry a file's permissions over. Default: as the umask says."),
    click.option(
        "--unfit",
        type=click.Choice([how.value for how in Unfit]),
        default=Unfit.FAIL.value,
        show_default=True,
        help="What is done with metadata and tags that the destination cannot hold.",
    ),
]


def attribute_options(function: F) -> F:
    """Decorate a command with all of them; their values go to :func:`rules_of`."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def rules_of(values: Mapping[str, Any]) -> AttributeRules:
    """The rules that the options' values make."""
    named = {name: values[name] for name in AttributeRules.__struct_fields__}
    return AttributeRules(**named | {"unfit": Unfit(values["unfit"])})
