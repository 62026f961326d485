"""A listing cut into ranges of keys that are listed at once and delivered in order. Pure: no store, thread or clock.

A store lists from any key on, so a range needs no folder and no delimiter: it is what lies behind one text up to
another. Where to cut is guessed: keys are read as numbers, and from a page that was seen follows how far a few pages
reach. A guess that is wrong costs a request, never a key: ranges that hold more than was thought are cut again, and
what an answer shows beyond the end of its range belongs to the next ones. Nothing is cut unless whoever takes the pages
has to wait, and answers that bring nothing new make requests fewer: a listing of one page costs one request.
"""

from __future__ import annotations

import bisect
import dataclasses
import operator
from collections import deque

from skyplane_core.keynumbers import KeyNumbers, Reach
from skyplane_core.model import ObjectInfo

_REACHES = 2
"""Pages of which the one that reached least tells how far others will."""
_KEY = operator.attrgetter("key")


@dataclasses.dataclass(slots=True, eq=False)
class Shard:
    """What is not listed yet of the keys behind ``after`` up to and including ``end`` (None: all).

    ``pages`` are those before that nobody has taken. ``asking``: the text behind which a page is asked for. ``reach``:
    two texts, the second about a page behind the first. ``known``: ``after`` is a key and no guess; ``sure``: so is
    ``asking``. ``long``: it may hold more pages than a range is to have.
    """

    after: str
    end: str | None
    reach: Reach = ("", "")
    pages: deque[list[ObjectInfo]] = dataclasses.field(default_factory=deque)
    asking: str | None = None
    listed: bool = False
    known: bool = False
    sure: bool = False
    long: bool = False


class Shards:
    """Says which page to ask for, and puts pages into order. Not thread-safe.

    Args:
        prefix: what all keys begin with.
        after: they come behind this key.
        at_once: requests in flight at most.
        each: pages of which a range is to be, and at most so many of one wait.
    """

    def __init__(self, prefix: str, after: str, *, at_once: int, each: int) -> None:
        self._at_once = at_once
        self._each = each
        self._shards = deque([Shard(after, None)])
        self._numbers = KeyNumbers(len(prefix))
        self._hunger = 0
        self._window = 1
        self._out = 0
        self._reach: Reach = ("", "")
        self._reaches: deque[Reach] = deque(maxlen=_REACHES)

    @property
    def ended(self) -> bool:
        """Whether everything was listed and taken."""
        return all(shard.listed and not shard.pages for shard in self._shards)

    @property
    def waiting(self) -> int:
        """Pages that nobody has taken."""
        return sum(len(shard.pages) for shard in self._shards)

    def take(self) -> list[ObjectInfo] | None:
        """The next page in order; None if it has not come yet, or nothing is left.

        Who has to wait is hungry: ranges are cut from then on, until so many pages were there at once.
        """
        while self._shards:
            first = self._shards[0]
            if first.pages:
                self._hunger = max(0, self._hunger - 1)
                return first.pages.popleft()
            if not first.listed:
                break
            self._shards.popleft()
        self._hunger = self._each * self._at_once
        return None

    def ask(self) -> Shard | None:
        """The range of which the page behind ``asking`` is to be asked for, or None if there is enough to wait for.

        The answer is to be brought to :meth:`came`.
        """
        if self._out >= self._window:
            return None
        chosen = self._unlisted() or (self._cut() if self._hunger else None)
        if chosen is not None:
            chosen.asking = chosen.after
            chosen.sure = chosen.known
            self._out += 1
        return chosen

    def came(self, shard: Shard, objects: list[ObjectInfo], *, more: bool) -> None:
        """What the store lists behind the key that was asked for. ``more``: there is something behind the last one."""
        asked, shard.asking = shard.asking or "", None
        self._out -= 1
        news = shard in self._shards and bool(objects) and objects[-1].key > shard.after
        self._window = min(self._window + 1, self._at_once) if news else max(self._window - 2, 1)
        if shard not in self._shards:
            return
        if news:
            self._numbers.learn(objects)
            seen = (asked or objects[0].key, objects[-1].key)
            missed = shard.end is not None and objects[0].key > shard.end
            if shard.sure or not self._reach[1]:
                self._reaches.append(seen)
            elif missed and self._numbers.way(seen) > self._numbers.way(self._reach):
                # Nothing was where it was thought to be: guesses do not reach far enough.
                self._reaches = deque([seen], _REACHES)
            # A page across a gap, as where a number gets another digit, seems to reach further than others do.
            self._reach = min(self._reaches, key=self._numbers.way)
        # What was shown is all there is up to its last key, whichever ranges that lies in.
        for place in range(self._shards.index(shard), len(self._shards)):
            shown = self._shards[place]
            if more and not (objects and objects[-1].key > shown.after):
                break
            self._extend(shown, objects, more=more)
        self._shards = deque(shard for shard in self._shards if shard.pages or not shard.listed)

    def _extend(self, shard: Shard, objects: list[ObjectInfo], *, more: bool) -> None:
        first = bisect.bisect_right(objects, shard.after, key=_KEY)
        last = len(objects) if shard.end is None else bisect.bisect_right(objects, shard.end, key=_KEY)
        if first < last and not shard.listed:
            shard.pages.append(objects[first:last])
            shard.after = objects[last - 1].key
            shard.reach = self._reach
            shard.known = True
        shard.listed |= not more or last < len(objects) or shard.after == shard.end
        shard.long = not shard.listed

    def _unlisted(self) -> Shard | None:
        """The earliest range, of those near the front, of which a page can be asked for."""
        for place, shard in enumerate(self._shards):
            if shard.listed or shard.asking is not None or (shard.end is None and place):
                continue
            if len(shard.pages) < 2 * self._each:
                return shard
        return None

    def _cut(self) -> Shard | None:
        """The second part of the earliest range that is too long, now a range of its own."""
        held = sum(len(shard.pages) or 1 for shard in self._shards)
        most = self._each * self._at_once
        for place, shard in enumerate(self._shards):
            # The first range holds up all others, however much of those is here.
            if held >= (2 * most if not place else most):
                return None
            if shard.listed or not shard.long:
                continue
            end = self._numbers.beyond(shard.reach if shard.end else self._reach, shard.after, self._each)
            shard.long = False
            if end is not None and (shard.end is None or end < shard.end):
                behind = Shard(end, shard.end, shard.reach, long=True)
                shard.end = end
                self._shards.insert(place + 1, behind)
                return behind
        return None
