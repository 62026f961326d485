"""A stock operator and ours over one grid of arguments: how a case is written down, run, and compared.

In a case each of the two operators has a source and a destination bucket of its own. In arguments, ``{src}`` and
``{dst}`` are their names, and so in what was returned or raised.
"""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from skyplane_core.spec import STATE_SEGMENT
from tests.servers.airflow_azure import Three, three
from tests.servers.botocore_files import read_once
from tests.servers.kept_dataplane import kept_dataplane

Step = dict[str, Any]
"""An operator's arguments; or under ``put``, objects to write to the source, under ``there`` to the destination."""


@dataclasses.dataclass(frozen=True)
class Case:
    """What is at the source, what is done, and where the results may differ.

    ``unordered``: the stock operator returns a set's order.
    """

    objects: dict[str, bytes]
    steps: tuple[Step, ...]
    unordered: bool = False


def case(objects: dict[str, bytes], *steps: Step, unordered: bool = False) -> Case:
    """A case in one line."""
    return Case(objects, steps, unordered)


@dataclasses.dataclass(frozen=True)
class Differs:
    """A difference on purpose in the last step of a case.

    ``stock``: what the stock operator raises (the type's name) or returns. ``ours``: what ours returns, or as a string
    what its AirflowException says, or the name of another exception. ``left``: what ours leaves at the destination.
    """

    case: Case
    stock: Any
    ours: Any
    left: dict[str, bytes]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What an operator returned, what it raised (name of the type, text), and what it warned of."""

    returned: Any
    raised: tuple[str, str] | None
    warned: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Pair:
    """A stock operator and ours, and the kinds of stores between which they copy."""

    stock: type
    ours: type
    source: str
    destination: str

    def run(self, cls: type, step: Step, source: str, destination: str) -> Outcome:
        """One operator on one step."""
        names = {source: "{src}", destination: "{dst}"}
        given = {name: _filled(value, src=source, dst=destination) for name, value in step.items()}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                operator = cls(task_id="copy", **given)
                returned, raised = operator.execute({}), None
            except Exception as error:  # noqa: BLE001  # whatever the stock operator raises is what is compared
                # Ours says its own name, which is the stock one with a prefix.
                said = _named(str(error), names).replace(self.ours.__name__, self.stock.__name__)
                returned, raised = None, (type(error).__name__, said)
        warned = tuple(str(warning.message) for warning in caught if warning.category is FutureWarning)
        return Outcome(_named(returned, names), raised, warned)

    def run_all(self, world: Three, cls: type, case: Case, source: str, destination: str) -> list[Outcome]:
        """One operator on all steps of a case, whose source is put anew first."""
        world.put(self.source, source, case.objects)
        found = []
        for step in case.steps:
            if "put" in step:
                world.put(self.source, source, step["put"])
            elif "there" in step:
                world.put(self.destination, destination, step["there"])
            else:
                found.append(self.run(cls, step, source, destination))
        return found

    def check_same(self, world: Three, name: str, case: Case) -> None:
        """Both operators have the same outcome in each step, and leave the same at their destinations."""
        stock, ours = names_of("stock", name), names_of("ours", name)
        expected = _comparable(self.run_all(world, self.stock, case, *stock), case)
        assert _comparable(self.run_all(world, self.ours, case, *ours), case) == expected
        assert world.objects(self.destination, ours[1]) == world.objects(self.destination, stock[1])

    def check_difference(self, world: Three, name: str, differs: Differs) -> None:
        """Each operator does what is written down of it."""
        stock, ours = names_of("stock", name), names_of("ours", name)
        expected = self.run_all(world, self.stock, differs.case, *stock)[-1]
        assert (expected.raised[0] if expected.raised else _sorted(expected.returned)) == differs.stock
        found = self.run_all(world, self.ours, differs.case, *ours)[-1]
        if isinstance(differs.ours, str) and found.raised is not None:
            raised, said = found.raised
            assert raised == differs.ours or (raised == "AirflowException" and differs.ours in said)
        else:
            assert (found.returned, found.raised) == (differs.ours, None)
        left = world.objects(self.destination, ours[1]) or {}
        # What fails leaves its receipt and its journal.
        kept = {key: body for key, (*_, body) in left.items() if STATE_SEGMENT not in key.split("/")}
        assert kept == differs.left


def names_of(who: str, case: str) -> tuple[str, str]:
    """The source and the destination bucket of one of the two operators in a case."""
    return f"{who}-{case}-src", f"{who}-{case}-dst"


@contextlib.contextmanager
def world_of(pair: Pair, names: Iterable[str], absent: Iterable[str] = ()) -> Iterator[Three]:
    """The servers with the buckets of all cases, and one gateway for all transfers.

    Args:
        absent: cases whose destinations are not there.
    """
    buckets: dict[str, list[str]] = {"s3": [], "gcs": [], "azure": []}
    for name in names:
        for source, destination in (names_of("stock", name), names_of("ours", name)):
            buckets[pair.source].append(source)
            if name not in absent:
                buckets[pair.destination].append(destination)
    with three(**buckets) as found, kept_dataplane(), pytest.MonkeyPatch.context() as patch:
        read_once(patch)
        yield found


def _comparable(outcomes: list[Outcome], case: Case) -> list[Outcome]:
    """The outcomes with what may differ taken out."""
    if not case.unordered:
        return outcomes
    return [dataclasses.replace(found, returned=_sorted(found.returned)) for found in outcomes]


def _sorted(returned: Any) -> Any:
    return sorted(returned) if isinstance(returned, list) else returned


def _filled(value: Any, **names: str) -> Any:
    return value.format(**names) if isinstance(value, str) else value


def _named(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, list):
        return [_named(item, names) for item in value]
    if isinstance(value, str):
        for name, mark in names.items():
            value = value.replace(name, mark)
    return value
