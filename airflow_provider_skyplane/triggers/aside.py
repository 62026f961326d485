"""Blocking calls of a trigger in threads of their own: neither the triggerer's loop nor its common threads wait."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from asgiref.sync import sync_to_async

T = TypeVar("T")

AT_ONCE = 4
"""Listings are compared in Python, which takes a core: of many sensors in one triggerer, so many look at a time."""
_turns: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = weakref.WeakKeyDictionary()


async def aside(call: Callable[[Callable[[], bool]], T]) -> T:
    """What ``call`` returns, called in a thread that ends with it, as soon as it has its turn.

    Args:
        call: gets a function that says whether nobody waits any more, as when the trigger was cancelled.
    """
    stopped = threading.Event()
    turn = _turns.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(AT_ONCE))
    async with turn:
        pool = ThreadPoolExecutor(1, thread_name_prefix="skyplane-sensor")
        try:
            # asgiref's, so that looking connections up in the thread finds its way back to the triggerer's loop.
            return await sync_to_async(call, thread_sensitive=False, executor=pool)(stopped.is_set)
        finally:
            stopped.set()
            pool.shutdown(wait=False)
