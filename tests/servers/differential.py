"""A stock operator and ours over one grid of arguments: how a case is written down, run, and compared.

Each case has a source bucket and two destination buckets of its own. In arguments, ``{src}`` and ``{dst}`` are their
names, and so in what was returned or raised.
"""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

from tests.servers.airflow_azure import Three

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


def comparable(outcomes: list[Outcome], case: Case) -> list[Outcome]:
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
