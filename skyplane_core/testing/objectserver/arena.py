"""Memory for object bytes that is used again after objects are gone.

Fresh pages are the dearest part of storing an object (0.25-0.4 CPU s/GB, touched ones 0.05), so bytes live in
*slabs* of a few large mapped files, cut into *cells* of one size each. The file system's space is claimed before a slab
is used: a mapped page that cannot be had would kill the process, where a claim that fails is an OSError.
"""

from __future__ import annotations

import collections
import contextlib
import mmap
import os
import threading

SLAB = 2 << 20
"""Bytes that are cut into cells of one size, claimed and given back together."""

LARGEST_CELL = SLAB // 4
"""Bytes of the largest cell but for a whole slab: more of them would not fit a slab well."""

SMALLEST_CELL = 64
_MADV_POPULATE_WRITE = 23
"""Since Linux 5.14; Python has no name for it."""

SEGMENT = 1 << 30
"""Bytes of address space of each file; only slabs in use or kept for the next object take memory."""


def cell_size(size: int) -> int:
    """The cell that ``size`` bytes get: at most a quarter is wasted. Less than ``size`` if it takes several cells."""
    if size >= SLAB:
        return SLAB
    if size >= LARGEST_CELL:
        return LARGEST_CELL
    if size <= SMALLEST_CELL:
        return SMALLEST_CELL
    step = 1 << ((size - 1).bit_length() - 3)
    return -(-size // step) * step


class _Segment:
    """One mapped file."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.ftruncate(self._fd, SEGMENT)
            self._map = mmap.mmap(self._fd, SEGMENT)
        except BaseException:
            os.close(self._fd)
            raise
        self.view = memoryview(self._map)

    def claim(self, start: int) -> None:
        """Make sure that there is space for a slab. Raises OSError."""
        os.posix_fallocate(self._fd, start, SLAB)
        # Where the kernel can: one call is cheaper than a fault for each page (0.19 against 0.28 CPU s/GB).
        with contextlib.suppress(OSError):
            self._map.madvise(_MADV_POPULATE_WRITE, start, SLAB)

    def drop(self, start: int) -> None:
        """Give a slab's memory back. Raises OSError where the file system cannot."""
        self._map.madvise(mmap.MADV_REMOVE, start, SLAB)

    def close(self) -> None:
        os.close(self._fd)
        # A view that somebody still holds keeps the mapping until it is gone.
        with contextlib.suppress(BufferError):
            self.view.release()
            self._map.close()


class _Slab:
    """Cells of one size: those given back, and from ``fresh`` on those that were never given out."""

    __slots__ = ("cell", "end", "fresh", "live", "segment", "spare", "start")

    def __init__(self, segment: _Segment, start: int, cell: int) -> None:
        self.segment = segment
        self.start = self.fresh = start
        self.end = start + SLAB // cell * cell
        self.cell = cell
        self.live = 0
        self.spare: list[int] = []

    @property
    def full(self) -> bool:
        return not self.spare and self.fresh == self.end

    def take(self) -> int:
        self.live += 1
        if self.spare:
            return self.spare.pop()
        self.fresh += self.cell
        return self.fresh - self.cell


class Cell:
    """``size`` bytes that belong to whoever holds this; they go back when the last reference does."""

    __slots__ = ("_arena", "_slab", "start")

    def __init__(self, arena: Arena, slab: _Slab, start: int) -> None:
        self._arena = arena
        self._slab = slab
        self.start = start

    def __del__(self) -> None:
        self._arena.give_back(self._slab, self.start)

    @property
    def size(self) -> int:
        """Bytes."""
        return self._slab.cell

    @property
    def path(self) -> str:
        """The file that holds the bytes, from ``start`` on."""
        return self._slab.segment.path

    def view(self, offset: int, size: int) -> memoryview:
        """The bytes themselves. Hold the cell as long as the view."""
        start = self.start + offset
        return self._slab.segment.view[start : start + size]


class Arena:
    """Hands out cells in files below ``directory``. Thread-safe.

    Args:
        directory: where the files are made; whoever owns it removes them.
        keep: bytes of unused slabs that keep their memory for the next object. None: an eighth of what the file
            system or the machine's memory holds, whichever is less.
    """

    def __init__(self, directory: str, keep: int | None = None) -> None:
        self._directory = directory
        if keep is None:
            room = os.statvfs(directory)
            memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
            keep = min(room.f_blocks * room.f_frsize, memory) // 8
        self._keep = keep
        self._lock = threading.Lock()
        self._segments: list[_Segment] = []
        self._unused = SEGMENT
        # The last slab that became free is the first to be used again: its bytes may still be in a cache.
        self._warm: list[tuple[_Segment, int]] = []
        self._cold: list[tuple[_Segment, int]] = []
        self._open: dict[int, dict[_Slab, None]] = collections.defaultdict(dict)
        self._freed: collections.deque[tuple[_Slab, int]] = collections.deque()
        self._claimed = self._used = 0
        self._closed = False

    @property
    def claimed(self) -> int:
        """Bytes of slabs that hold memory, in use or not."""
        return self._claimed

    @property
    def used(self) -> int:
        """Bytes of the cells that somebody holds."""
        with self._lock:
            self._collect()
            return self._used

    def take(self, size: int) -> Cell:
        """A cell for the first :func:`cell_size` of ``size`` bytes. Raises OSError when there is no space."""
        cell = cell_size(size)
        with self._lock:
            self._collect()
            slabs = self._open[cell]
            slab = next(iter(slabs), None)
            if slab is None:
                slab = _Slab(*self._area(), cell)
                slabs[slab] = None
            start = slab.take()
            self._used += cell
            if slab.full:
                del slabs[slab]
        return Cell(self, slab, start)

    def give_back(self, slab: _Slab, start: int) -> None:
        """Take a cell back; for :class:`Cell` alone.

        The collector may call this at any moment, even while this very thread holds the lock: then, the next call of
        :meth:`take` does the work.
        """
        self._freed.append((slab, start))
        if self._lock.acquire(blocking=False):
            try:
                self._collect()
            finally:
                self._lock.release()

    def close(self) -> None:
        """Unmap the files. Nobody may use a cell any more. May be called again."""
        with self._lock:
            self._closed = True
            segments, self._segments = self._segments, []
            self._warm.clear()
            self._cold.clear()
        for segment in segments:
            segment.close()

    def _collect(self) -> None:
        while self._freed and not self._closed:
            slab, start = self._freed.popleft()
            slab.live -= 1
            self._used -= slab.cell
            slab.spare.append(start)
            slabs = self._open[slab.cell]
            if slab.live:
                slabs[slab] = None
            else:
                slabs.pop(slab, None)
                self._retire(slab.segment, slab.start)

    def _retire(self, segment: _Segment, start: int) -> None:
        if len(self._warm) * SLAB >= self._keep:
            # Where the file system cannot, the slab is kept for the next object all the same.
            with contextlib.suppress(OSError):
                segment.drop(start)
                self._cold.append((segment, start))
                self._claimed -= SLAB
                return
        self._warm.append((segment, start))

    def _area(self) -> tuple[_Segment, int]:
        """A slab's place, with memory behind it."""
        if self._warm:
            return self._warm.pop()
        if not self._cold:
            if self._unused == SEGMENT:
                self._segments.append(_Segment(f"{self._directory}/arena-{len(self._segments)}"))
                self._unused = 0
            self._cold.append((self._segments[-1], self._unused))
            self._unused += SLAB
        segment, start = self._cold[-1]
        segment.claim(start)
        self._claimed += SLAB
        return self._cold.pop()
