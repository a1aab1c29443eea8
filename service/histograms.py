"""Histograms whose observations come several at once and are counted under one lock."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate
from threading import Lock
from typing import TypeAlias

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

Labels: TypeAlias = tuple[str, ...]
EVERYTHING = "+Inf"


class Series:
    """What one histogram counted; only its `Histograms` may change it."""

    __slots__ = ("counts", "total")

    def __init__(self, size: int) -> None:
        self.counts = [0] * size  # of each bucket alone, the last one without a bound
        self.total = 0.0


class Histograms(Collector):
    """Histograms of one name by their labels, exposed as the client library's own.

    The library takes two locks an observation and looks at one bound after another; a search is
    seven observations. A series is handed out once, and whoever counts keeps it.
    """

    def __init__(
        self, name: str, words: str, labels: Sequence[str], bounds: Sequence[float]
    ) -> None:
        """Take the upper bounds in order, without the infinite one."""
        self._name, self._words, self._labels = name, words, tuple(labels)
        self._bounds = tuple(bounds)
        self._edges = [*map(floatToGoString, bounds), EVERYTHING]
        self._series: dict[Labels, Series] = {}
        self._lock = Lock()

    def series(self, *labels: str) -> Series:
        """The histogram of these labels, there from now on."""
        with self._lock:
            return self._series.setdefault(labels, Series(len(self._edges)))

    def observe(self, observations: Iterable[tuple[Series, float]]) -> None:
        """Count each value in its series; a value on a bound belongs below it."""
        bounds = self._bounds
        with self._lock:
            for series, value in observations:
                series.counts[bisect_left(bounds, value)] += 1
                series.total += value

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """One family with every series that was handed out."""
        family = HistogramMetricFamily(self._name, self._words, labels=self._labels)
        with self._lock:
            seen = [(key, list(one.counts), one.total) for key, one in self._series.items()]
        for key, counts, total in seen:
            family.add_metric(key, list(zip(self._edges, accumulate(counts), strict=True)), total)
        yield family
