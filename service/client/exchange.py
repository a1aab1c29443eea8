"""One call from its first try to its answer or error, written once for both clients."""

import random
import time
from collections.abc import Callable
from typing import TypeVar

import httpx

from service.client.calls import Call
from service.client.effects import Pause, Send
from service.client.errors import ClientError, error_of, foreign, unanswered
from service.client.retrying import RetryPolicy

T = TypeVar("T")


async def exchange(
    call: Call[T], policy: RetryPolicy, clock: Callable[[], float] = time.monotonic
) -> T:
    """The call's answer.

    Raises:
        ClientError: why there is none, after as many tries as the policy and the call allow.
        OSError: a file to send cannot be read.
    """
    content, began, tried = await call.content(), clock(), 0
    while True:
        tried += 1
        try:
            return _answer(call, await _send(Send(call.method, call.path, content)))
        except ClientError as error:
            pause = policy.pause(error, tried, clock() - began, random.random())
            if pause is None or not call.repeatable:
                raise
        await Pause(pause)


async def _send(request: Send) -> httpx.Response:
    try:
        return await request
    except httpx.RequestError as error:
        raise unanswered(error) from error


def _answer(call: Call[T], response: httpx.Response) -> T:
    if not response.is_success and response.status_code not in call.statuses:
        if response.status_code < 400:
            raise foreign(response, "it is no answer of this API")
        raise error_of(response)
    return call.read(response)
