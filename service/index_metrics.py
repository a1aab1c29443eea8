"""Metrics of the index that is served: they follow it from version to version."""

import math
from collections.abc import Iterable
from datetime import UTC, datetime

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.serving import Outcome, Serving


class IndexCollector(Collector):
    """Read from the engine at every scrape, so that no series of an old version stays."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    def collect(self) -> Iterable[Metric]:
        """Three gauges and a counter."""
        engine = self._serving.engine
        manifest = engine.artifact.manifest
        info = GaugeMetricFamily(
            "meet_index_info", "The index served", labels=("version", "encoder")
        )
        info.add_metric((engine.version, engine.encoder.identity.name), 1)
        items = GaugeMetricFamily("meet_index_items", "Items", labels=("modality",))
        for modality, count in manifest.counts.items():
            items.add_metric((modality.value,), count)
        age = GaugeMetricFamily("meet_index_age_seconds", "Time since the index was built")
        age.add_metric((), seconds_since(manifest.created))
        activations = CounterMetricFamily(
            "meet_index_activations", "Versions activated, or refused", labels=("result",)
        )
        for outcome in Outcome:
            activations.add_metric((outcome.value,), self._serving.outcomes[outcome])
        return info, items, age, activations


def seconds_since(created: str) -> float:
    """Seconds since a moment in ISO 8601; not a number where that is none."""
    try:
        moment = datetime.fromisoformat(created)
    except ValueError:
        return math.nan
    return (datetime.now(UTC) - moment.astimezone(UTC)).total_seconds()
