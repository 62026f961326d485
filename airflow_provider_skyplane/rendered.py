"""Arguments that would mean more, or else, than meant: nothing, what was rendered to nothing, a text for yes or no."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from skyplane_core.errors import UsageError


def refuse_nothing(arguments: Mapping[str, Any], *, texts: Iterable[str] = ()) -> None:
    """Refuse empty texts, wherever in an argument they are, and the word that Python's None is rendered to.

    An argument that is None was not given.

    Args:
        texts: arguments for which that word means itself.

    Raises:
        UsageError: it names the argument.
    """
    words = frozenset(texts)
    for name, value in arguments.items():
        _refuse(name, value, nothing=("",) if name in words else ("", "None"))


def truth(name: str, value: Any) -> bool:
    """A yes or no, which is no text: Python takes each for True, also ``"False"`` and a template, which stays one.

    Raises:
        ValueError: it is something else; the argument is named.
    """
    if not isinstance(value, int):
        raise ValueError(f"Invalid value for {name}: {value!r}. Expected True or False; this argument is no template")  # noqa: TRY004  # as for all other values
    return bool(value)


def _refuse(name: str, value: Any, *, nothing: tuple[str, ...]) -> None:
    if isinstance(value, str):
        if value.strip() in nothing:
            raise UsageError(
                f"{name} is {value!r}",
                why="it was given as nothing, or a template was rendered to nothing",
                next_step="Check what its template refers to, or leave the argument out.",
            )
    elif isinstance(value, Mapping):
        for key, one in value.items():
            _refuse(f"{name}[{key!r}]", one, nothing=nothing)
    elif isinstance(value, (list, tuple)):
        for number, one in enumerate(value):
            _refuse(f"{name}[{number}]", one, nothing=nothing)
