"""The ends of a transfer as an operator's arguments name them, and what about them cannot be right."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from airflow_provider_skyplane.compat import XComArg
from skyplane_core.errors import InvalidURI, UsageError
from skyplane_core.keys import map_key, rule
from skyplane_core.locations import Location, check_apart, check_distinct
from skyplane_core.model import StoreConfig
from skyplane_core.selection import tree_root
from skyplane_core.store_options import StoreOptions
from skyplane_core.uri import Endpoint, locate, parse

_FIELDS = ("uri", "conn_id", "options", "attribute_rules")
_IN_FILES = frozenset({"local", "hdfs"})


@dataclasses.dataclass(frozen=True)
class End:
    """One end: its URI, and how it is reached.

    ``argument`` and ``conn_argument`` are where a user finds them: ``destination``, or ``destination[1]``. ``rules``
    are a destination's attribute rules.
    """

    argument: str
    uri: Any
    conn_argument: str
    conn_id: str | None
    options: Mapping[str, Any]
    rules: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def written(self) -> bool:
        """Whether it is a destination."""
        return self.argument != "source"

    @property
    def endpoint(self) -> Endpoint:
        """The parsed URI.

        Raises:
            InvalidURI: it cannot be parsed; the argument is named.
        """
        if not isinstance(self.uri, str):
            raise InvalidURI(f"{self.argument} is {self.uri!r}, which is no URI", next_step="Write it as a text.")
        try:
            return parse(self.uri)
        except InvalidURI as error:
            raise InvalidURI(
                f"{self.argument} cannot be used: {error.what}",
                where=error.where,
                why=error.why,
                next_step=error.next_step,
            ) from error


class Later:
    """Stands for an argument that the task's own function will say."""

    def __init__(self, argument: str) -> None:
        self._argument = argument

    def __repr__(self) -> str:
        return f"the {self._argument} that its function returns"


def is_literal(text: object) -> bool:
    """Whether the text is what it will be at run time: no template, and not another task's output."""
    return isinstance(text, str) and "{{" not in text and "{%" not in text


def is_template(value: object) -> bool:
    """Whether only a run knows what the value is."""
    return is_later(value) or (isinstance(value, str) and not is_literal(value))


def is_later(value: object) -> bool:
    """Whether the value is a task's output, or its function's, which only a run knows."""
    return isinstance(value, (Later, XComArg))


def is_listed(destination: object) -> bool:
    """Whether it is a list of destinations, however many."""
    return not isinstance(destination, (str, Mapping))


def destinations_of(
    given: Any, conn_id: str | None, options: Mapping[str, Any], rules: Mapping[str, Any]
) -> list[End] | None:
    """The destinations that an operator is given: a URI or a mapping with one, or a list of several.

    None if only a run knows them. What a mapping says goes before what is said for all: ``conn_id``, ``options`` and
    ``rules``.

    Raises:
        ValueError: it is nothing of the kind.
    """
    if is_later(given):
        return None
    if isinstance(given, (str, Mapping)):
        return [_destination("destination", given, conn_id, options, rules)]
    if not isinstance(given, Sequence) or not given:
        raise ValueError(
            f"Invalid value for destination: {given!r}. Expected a URI, or a list of at least one destination"
        )
    return [
        _destination(f"destination[{number}]", one, conn_id, options, rules)
        for number, one in enumerate(given)
        if not is_later(one)
    ]


def _destination(
    argument: str, given: Any, conn_id: str | None, options: Mapping[str, Any], rules: Mapping[str, Any]
) -> End:
    if isinstance(given, str):
        return End(argument, given, "destination_conn_id", conn_id, options, rules)
    if not isinstance(given, Mapping) or "uri" not in given:
        raise ValueError(
            f"Invalid value for {argument}: {given!r}. Expected a URI, or a dict with the key uri, and with "
            f"{', '.join(_FIELDS[1:])} where this destination has its own"
        )
    unknown = sorted(given.keys() - set(_FIELDS))
    if unknown:
        raise ValueError(f"Invalid value for {argument}: unknown key {unknown[0]!r}. Known are {', '.join(_FIELDS)}")
    own = given.get("conn_id")
    return End(
        argument,
        given["uri"],
        "destination_conn_id" if own is None else f"{argument}['conn_id']",
        conn_id if own is None else own,
        {**options, **(given.get("options") or {})},
        {**rules, **(given.get("attribute_rules") or {})},
    )


def check_ends(source: End, destinations: Sequence[End], *, recursive: bool, rendered: bool) -> None:
    """Refuse ends that cannot be right, alone or together.

    Args:
        rendered: templates are; otherwise what is templated is passed over.

    Raises:
        UsageError: an end cannot be used, or two are the same or one inside the other. Connections that differ may lead
            to services that do, and what paths in a file system mean is only known there: both are left to the engine.
        ValueError: a connection is given where there is none, or for stores of different kinds.
    """
    known = [(end, end.endpoint) for end in (source, *destinations) if rendered or not is_template(end.uri)]
    for end, endpoint in known:
        StoreOptions.of(end.options).check(endpoint.kind, end.uri, written=end.written)
        _check_connection_fits(end, endpoint)
        if not end.written and not recursive and not locate(endpoint, directory=False).key:
            raise UsageError(
                "the source names a bucket or directory, not an object",
                where=endpoint.uri,
                next_step="Set recursive=True to copy all that is in it.",
            )
    there = [(end, endpoint) for end, endpoint in known if end.written]
    _check_shared_connection(there)
    if not known or known[0][0].written:
        return
    here = known[0][1]
    for end, endpoint in there:
        if end.conn_id == source.conn_id:
            _check_apart(here, endpoint, recursive=recursive)
    for together in _by_connection(there):
        check_distinct([_landing(here, endpoint, recursive=recursive) for endpoint in together], recursive=recursive)


def _by_connection(ends: Sequence[tuple[End, Endpoint]]) -> Iterator[list[Endpoint]]:
    """Those that surely are of one service."""
    groups: dict[tuple[Any, ...], list[Endpoint]] = {}
    for end, endpoint in ends:
        asked = StoreOptions.of(end.options)
        groups.setdefault((end.conn_id, endpoint.kind, asked.endpoint_url, asked.account), []).append(endpoint)
    return iter(groups.values())


def _check_apart(here: Endpoint, there: Endpoint, *, recursive: bool) -> None:
    if {here.kind, there.kind} & _IN_FILES:
        # Only a file system knows where links and ".." lead; the very same path is the same in any.
        if tree_root(here.uri) == tree_root(there.uri):
            raise UsageError(
                "source and destination are the same", where=here.uri, next_step="Name another destination."
            )
        return
    check_apart(
        _location(here),
        _location(there),
        recursive=recursive,
        destination_key=_landing(here, there, recursive=recursive).key,
    )


def _landing(here: Endpoint, there: Endpoint, *, recursive: bool) -> Location:
    """The object, or the root, that the destination gets in its store."""
    if recursive or there.kind in _IN_FILES:
        return _location(locate(there, directory=recursive))
    selection, mapping = rule(locate(here, directory=False).key, there.key, recursive=False)
    return Location(_location(there).store, map_key(mapping, selection.prefix))


def _location(endpoint: Endpoint) -> Location:
    return Location(StoreConfig(endpoint.kind, endpoint.bucket, endpoint.endpoint_url), endpoint.key)


def _check_connection_fits(end: End, endpoint: Endpoint) -> None:
    if end.conn_id is None:
        return
    if endpoint.kind == "local" and end.conn_argument != "destination_conn_id":
        raise ValueError(
            f"{end.conn_argument} is {end.conn_id!r}, and {end.argument} {endpoint.uri} is a file of the gateway's "
            "machine, which takes no connection. Leave it out"
        )
    if StoreOptions.of(end.options).anonymous:
        raise ValueError(
            f"{end.conn_argument} is {end.conn_id!r}, and the options of {end.argument} say anonymous, which asks no "
            "connection. Leave one of them out"
        )


def _check_shared_connection(destinations: Sequence[tuple[End, Endpoint]]) -> None:
    sharing = [(end, endpoint) for end, endpoint in destinations if end.conn_argument == "destination_conn_id"]
    if not sharing or sharing[0][0].conn_id is None:
        return
    kinds = sorted({endpoint.kind for _, endpoint in sharing})
    if kinds == ["local"]:
        raise ValueError(
            f"destination_conn_id is {sharing[0][0].conn_id!r}, and {sharing[0][1].uri} is a file of the gateway's "
            "machine, which takes no connection. Leave it out"
        )
    if len({*kinds} - {"local"}) > 1:
        raise ValueError(
            f"destination_conn_id is {sharing[0][0].conn_id!r}, and the destinations are of several kinds: "
            f"{', '.join(kinds)}. Give each its own, as in {{'uri': ..., 'conn_id': ...}}"
        )
