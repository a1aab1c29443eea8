"""Long work beside the service: on a thread that yields to searches and holds up no stop."""

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

NICENESS = 5


async def aside(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The call's result, from a thread of its own that the process does not wait for at its end."""
    future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
    work = partial(_work, future, partial(call, *args, **kwargs))
    threading.Thread(target=work, name="meet-aside", daemon=True).start()
    try:
        return await future
    finally:
        del future, work  # an error would else hold on to itself, and to what its frames held


def _work(future: asyncio.Future[T], call: Callable[[], T]) -> None:
    _yield_to_others()
    try:
        settle = partial(future.set_result, call())
    except Exception as error:  # noqa: BLE001 - it belongs to whoever waits
        settle = partial(future.set_exception, error.with_traceback(None))
    with suppress(RuntimeError):  # the loop was closed meanwhile
        future.get_loop().call_soon_threadsafe(_settle, future, settle)


def _settle(future: asyncio.Future[Any], settle: Callable[[], None]) -> None:
    if not future.done():
        settle()


def _yield_to_others() -> None:
    """Lower this thread's priority: on Linux it has one of its own."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
