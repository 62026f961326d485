"""HTML by construction: what is not markup of ours is text, whatever it holds. Pure."""

from __future__ import annotations

from html import escape


class Html(str):
    """Markup. Made by :func:`element` and :func:`joined`, or from a literal of ours."""

    __slots__ = ()


def text(value: object) -> Html:
    """``value`` as text; markup stays what it is. What cannot be seen, or turns the writing around, is spelt out."""
    if isinstance(value, Html):
        return value
    shown = "".join(char if char.isprintable() else _spelt(char) for char in str(value))
    return Html(escape(shown))


def element(name: str, *children: object, **attributes: object) -> Html:
    """An element. In an attribute's name a trailing ``_`` is dropped, any other a ``-``; one of None is left out."""
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{text(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{said}>{joined(*children)}</{name}>")


def joined(*children: object) -> Html:
    """One after the other."""
    return Html("".join(text(child) for child in children))


def _spelt(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
