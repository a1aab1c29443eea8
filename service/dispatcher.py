"""The one thread that touches the device, and the few that decode images."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Dispatcher:
    """Runs jobs off the event loop: device work one by one, decoding side by side.

    GPU indexes of faiss are not safe for concurrent searches, and on a CPU two searches at
    once only wake each other's thread pools.
    """

    def __init__(self, decode_threads: int) -> None:
        self._device = ThreadPoolExecutor(1, thread_name_prefix="meet-device")
        self._decoders = ThreadPoolExecutor(decode_threads, thread_name_prefix="meet-decode")

    async def run(self, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The job's result, from the device's thread."""
        return await _await(self._device, lambda: job(*args, **kwargs))

    async def decode(self, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The job's result, from a decoding thread; for files and images."""
        return await _await(self._decoders, lambda: job(*args, **kwargs))

    def close(self) -> None:
        """Let running jobs end; drop those that wait."""
        self._decoders.shutdown(wait=True, cancel_futures=True)
        self._device.shutdown(wait=True, cancel_futures=True)


async def _await(pool: ThreadPoolExecutor, job: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(pool, job)
