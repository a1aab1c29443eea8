"""What servers of one index share through Redis: its door, and the reverse lists."""

from collections.abc import Callable, Iterable, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from model.core.types import Direction
from model.reverse_lists.layers import LayeredLists
from model.reverse_lists.redis_door import RedisDoor, RedisHealth
from model.reverse_lists.redis_layer import RedisLayer
from model.reverse_lists.redis_options import RedisOptions
from service.answer_cache import Lookup
from service.engine import SearchEngine
from service.settings import ServiceSettings


def open_door(settings: ServiceSettings) -> RedisDoor | None:
    """The one door of this server, None without a URL.

    Raises:
        InputError: the URL is none that redis understands.
    """
    if settings.redis_url is None:
        return None
    options = RedisOptions(
        timeout_seconds=settings.redis_timeout_ms / 1000,
        put_bytes=settings.redis_put_bytes,
        max_memory_bytes=settings.redis_max_memory_bytes,
    )
    return RedisDoor(settings.redis_url.get_secret_value(), options)


def share_lists(engine: SearchEngine, door: RedisDoor, keep_seconds: int) -> None:
    """Let an engine's lists be asked for behind this door, after memory and before computing.

    That is the order of `benchmarks/list_layers.md`; a stored table leaves nothing to ask for.
    """
    z = engine.artifact.manifest.bank.z
    for direction in Direction:
        side = engine.cascade.sides.get(direction.candidate)
        if side is not None and isinstance(side.lists, LayeredLists):
            layer = RedisLayer(door, engine.version, direction, z, keep_seconds=keep_seconds)
            side.lists.share(layer)


class RedisCollector(Collector):
    """The door's breakers and failures and the answers looked up, read at every scrape."""

    def __init__(self, health: Callable[[], RedisHealth], lookups: Mapping[Lookup, int]) -> None:
        self.health, self.lookups = health, lookups

    def collect(self) -> Iterable[Metric]:
        """One gauge and two counters, every label there from the start."""
        health = self.health()
        breakers = GaugeMetricFamily(
            "meet_redis_breaker_open", "Whether Redis is left alone (1)", labels=("use",)
        )
        for use, is_open in health.open.items():
            breakers.add_metric((use,), float(is_open))
        failures = CounterMetricFamily(
            "meet_redis_failures", "Calls to Redis that failed, and values unfit", labels=("kind",)
        )
        for kind, times in health.failures.items():
            failures.add_metric((kind.value,), times)
        answers = CounterMetricFamily(
            "meet_answer_lookups", "Whole answers looked up in Redis", labels=("result",)
        )
        for result in Lookup:
            answers.add_metric((result.value,), self.lookups.get(result, 0))
        return breakers, failures, answers
