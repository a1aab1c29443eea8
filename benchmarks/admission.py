"""What a rate limit and a batch's wait for company cost, as ratios within one run on one machine.

    python -m benchmarks.admission --index demo/index --out benchmarks/admission.md

Real servers on loopback that differ in nothing else, all up at once and asked in turns: vector
searches of servers without and with a rate limit that nobody reaches, in the process's own buckets
and in those of a redis-server started here; text searches of servers whose batches wait 0, 1, 2
and 5 ms for company. Each gives the median of one client and the best rate of many.
"""

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import TypeAlias

import httpx

from benchmarks.list_layers import TCP, redis_server
from benchmarks.serving import Caller, Load, Requests, draw, environment, measure_rates
from benchmarks.smoke import Direct, serving
from model.core.command import Parser, exit_status
from model.core.errors import MeetError

Variables: TypeAlias = Mapping[str, str]
QUIET = {"MEET_WATCH_SECONDS": "0", "MEET_SHADOW_SHARE": "0", "MEET_REDIS_ANSWER_SECONDS": "0"}
LIMITED = {"MEET_RATE_LIMIT__PER_SECOND": "1000000", "MEET_RATE_LIMIT__BURST": "1000000"}
WAITS_MS = (0, 1, 2, 5)
TURN, WARM_UP = 20, 5  # searches of one client before it is another server's turn


@dataclass(frozen=True)
class Figures:
    """One server's median milliseconds at one client, and answers a second to many."""

    milliseconds: float
    per_second: float


@dataclass(frozen=True)
class Part:
    """Servers that are compared: the variables of each, beside which other one it stands."""

    title: str
    variables: Mapping[str, Variables]
    beside: Mapping[str, str]


def limits(redis_url: str) -> Part:
    """Servers without and with a limit, without and with Redis."""
    shared = {"MEET_REDIS_URL": redis_url}
    names = ("no limit", "limit", "Redis, no limit", "Redis, limit")
    told: Sequence[Variables] = ({}, LIMITED, shared, {**shared, **LIMITED})
    beside = {names[0]: names[0], names[1]: names[0], names[2]: names[0], names[3]: names[2]}
    return Part("vector searches", dict(zip(names, told, strict=True)), beside)


def waits() -> Part:
    """Servers whose batches wait for company, from not at all on."""
    names = {wait: f"`MEET_BATCH__MAX_WAIT_MS={wait}`" for wait in WAITS_MS}
    told = {name: {"MEET_BATCH__MAX_WAIT_MS": str(wait)} for wait, name in names.items()}
    return Part("text searches", told, dict.fromkeys(told, names[WAITS_MS[0]]))


@contextmanager
def started(root: Path, part: Part) -> Iterator[dict[str, httpx.URL]]:
    """The address of each of the part's servers."""
    with ExitStack() as stack:
        urls = {}
        for name, told in part.variables.items():
            with environment({**QUIET, **told}):
                urls[name] = httpx.URL(stack.enter_context(serving(root)))
        yield urls


def measure(
    urls: Mapping[str, httpx.URL], requests: Sequence[bytes], load: Load
) -> dict[str, Figures]:
    """Each server's figures; every round asks all of them, so that noise meets them alike."""
    seconds: dict[str, list[float]] = {name: [] for name in urls}
    rates: dict[str, list[float]] = {name: [] for name in urls}
    for _ in range(load.rounds):
        for _ in range(0, load.alone, TURN):
            for name, url in urls.items():
                seconds[name] += _alone(url, requests)
        for name, url in urls.items():
            once = measure_rates(url, {name: requests}, replace(load, rounds=1))
            rates[name].append(once[name])
    return {name: Figures(1000 * median(seconds[name]), max(rates[name])) for name in urls}


def _alone(url: httpx.URL, requests: Sequence[bytes]) -> list[float]:
    """Seconds of a turn's answers, on a connection of its own: a server ends one that idles."""
    caller = Caller(url)
    with caller.socket:
        caller.seconds(requests, WARM_UP)
        return caller.seconds(requests, TURN)


def require_limit(urls: Mapping[str, httpx.URL], body: Mapping[str, object], part: Part) -> None:
    """Check that exactly the servers with a limit say so.

    Raises:
        MeetError: names the server.
    """
    for name, url in urls.items():
        answer = httpx.post(url.join("/search/text-to-image"), json=body).raise_for_status()
        limited = LIMITED.items() <= part.variables[name].items()
        if ("ratelimit-limit" in answer.headers) is not limited:
            raise MeetError(f"the server {name!r} should{'' if limited else ' not'} have a limit")


def table(part: Part, found: Mapping[str, Figures], clients: int) -> list[str]:
    """The part's figures as lines of Markdown, each beside the server that it is compared with."""
    lines = [
        f"| {part.title} | p50, 1 client, ms | more, ms | ratio | a second, {clients} clients "
        "| ratio |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, one in found.items():
        base = found[part.beside[name]]
        more, slower = one.milliseconds - base.milliseconds, one.milliseconds / base.milliseconds
        lines.append(
            f"| {name} | {one.milliseconds:.3f} | {more:+.3f} | {slower:.2f} "
            f"| {one.per_second:,.0f} | {one.per_second / base.per_second:.2f} |"
        )
    return [*lines, ""]


def page(root: Path, load: Load, redis_url: str) -> str:
    """Everything measured, as a page of Markdown."""
    queries = draw(Direct.open(root, 10), 512)
    lines = [*_head(load)]
    for part in (limits(redis_url), waits()):
        with started(root, part) as urls:
            require_limit(urls, {"query": queries.texts[0]}, part)
            host = next(iter(urls.values())).netloc.decode()
            requests = Requests.of(host, queries)
            asked = requests.texts if part.title.startswith("text") else requests.vectors
            lines += table(part, measure(urls, asked, load), load.clients)
    return "\n".join([*lines, NOTE])


def _head(load: Load) -> list[str]:
    machine = f"{os.cpu_count()} cores of a shared {platform.machine()} machine"
    return [
        "# What a rate limit and a wait for company cost",
        "",
        "```sh",
        "python -m benchmarks.admission --index demo/index --out benchmarks/admission.md",
        "```",
        "",
        "Real servers over one index on loopback that differ in nothing else, up at once and asked "
        f"in turns ({load.rounds} rounds of {load.alone} searches of one client, and of "
        f"{load.seconds:g} s of {load.clients} clients); {machine}, which the clients share. The "
        "limit is one that nobody reaches; Redis is asked over TCP, keeps no answers, and stands "
        "beside a server with Redis and no limit.",
        "",
    ]


NOTE = """\
A search that comes alone waits all of `MAX_WAIT_MS` for company. Under load the next batch gathers
while one runs, with or without a wait.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """0 with the page on stdout, 2 with one sentence where it cannot be measured."""
    return exit_status("benchmarks.admission", lambda: _run(_parser().parse_args(arguments)))


def _run(told: argparse.Namespace) -> None:
    load = Load(told.clients, told.alone, told.seconds, told.rounds)
    with tempfile.TemporaryDirectory(prefix="admission") as name, redis_server(Path(name)) as urls:
        text = page(told.index, load, urls[TCP])
    print(text, end="")
    if told.out is not None:
        told.out.write_text(text, "utf-8")


def _parser() -> Parser:
    parser = Parser("python -m benchmarks.admission", description="What admission costs a search.")
    parser.add_argument("--index", type=Path, required=True, help="what meet-build wrote")
    parser.add_argument("--clients", type=int, default=64, help="connections at once")
    parser.add_argument("--alone", type=int, default=300, help="requests of one client a round")
    parser.add_argument("--seconds", type=float, default=4.0, help="of a load by all clients")
    parser.add_argument("--rounds", type=int, default=3, help="how often all is measured")
    parser.add_argument("--out", type=Path, help="also write the page to this file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
