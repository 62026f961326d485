"""How many gateways do what: ``2:1:2`` is two readers, a relay and two writers."""

from __future__ import annotations

import re
from typing import NamedTuple

from skyplane_core.errors import UsageError
from skyplane_core.model import Role

MOST_GATEWAYS = 32


class Layout(NamedTuple):
    """Gateways of each role."""

    readers: int
    relays: int
    writers: int

    @classmethod
    def parse(cls, text: str) -> Layout:
        """``READERS:RELAYS:WRITERS``, or ``READERS:WRITERS`` for none between them.

        Raises:
            UsageError: not that, or nobody would read or write.
        """
        match = re.fullmatch(r"(\d{1,3}):(?:(\d{1,3}):)?(\d{1,3})", text.strip())
        if match is None:
            raise UsageError(
                f"{text!r} is not a layout",
                next_step="Write READERS:RELAYS:WRITERS, such as 2:1:2, or READERS:WRITERS.",
            )
        layout = cls(int(match[1]), int(match[2] or 0), int(match[3]))
        if not layout.readers or not layout.writers or sum(layout) > MOST_GATEWAYS:
            raise UsageError(
                f"the layout {text!r} has no reader, no writer, or more than {MOST_GATEWAYS} gateways",
                next_step="Use at least one reader and one writer.",
            )
        return layout

    @property
    def roles(self) -> tuple[Role, ...]:
        """One for each gateway, readers first: the first one is the head."""
        return (
            *[Role.READER] * self.readers,
            *[Role.RELAY] * self.relays,
            *[Role.WRITER] * self.writers,
        )

    def __str__(self) -> str:
        return f"{self.readers}:{self.relays}:{self.writers}"
