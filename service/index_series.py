"""Series of the index that is served and of the device, read at every scrape."""

import platform
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

import torch
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from model.core.types import Modality
from service.engine import SearchEngine
from service.serving import Outcome, Serving

CUDA = "cuda"
MemoryOf = Callable[[str], Mapping[str, int]]


class IndexCollector(Collector):
    """The index of the moment: who it is, how many items it holds, and how old it is."""

    def __init__(self, served: Callable[[], SearchEngine]) -> None:
        """Take what gives the engine that answers now."""
        self.served = served

    def collect(self) -> Iterable[Metric]:
        """Three gauges; both modalities are there, with 0 items where there are none."""
        engine = self.served()
        manifest = engine.artifact.manifest
        info = GaugeMetricFamily(
            "meet_index_info", "The index served", labels=("version", "encoder")
        )
        info.add_metric((engine.version, engine.encoder.identity.name), 1)
        items = GaugeMetricFamily("meet_index_items", "Items of the index", labels=("modality",))
        for modality in Modality:
            items.add_metric((modality.value,), manifest.counts.get(modality, 0))
        age = GaugeMetricFamily("meet_index_age_seconds", "Time since the index was built")
        age.add_metric((), age_seconds(manifest.created, time.time()))
        return info, items, age


class DeviceCollector(Collector):
    """Memory of the GPU that is used."""

    def __init__(self, device: str, memory: MemoryOf | None = None) -> None:
        """Take the device, and what reads its memory."""
        self.device, self.memory = device, memory or gpu_memory

    def collect(self) -> Iterable[Metric]:
        """One gauge by kind."""
        family = GaugeMetricFamily(
            "meet_gpu_memory_bytes", "Memory of the GPU", labels=("device", "kind")
        )
        for kind, size in self.memory(self.device).items():
            family.add_metric((self.device, kind), size)
        yield family


class BuildCollector(Collector):
    """Which release this is, and on what it stands."""

    def __init__(self, version: str) -> None:
        self.version = version

    def collect(self) -> Iterable[Metric]:
        """One gauge that is 1."""
        labels = {
            "version": self.version,
            "python": platform.python_version(),
            "torch": torch.__version__,
        }
        family = GaugeMetricFamily("meet_build_info", "The release that runs", labels=tuple(labels))
        family.add_metric(tuple(map(str, labels.values())), 1)
        yield family


class ActivationCollector(Collector):
    """How the activations of versions ended."""

    def __init__(self, outcomes: Mapping[Outcome, int]) -> None:
        self.outcomes = outcomes

    def collect(self) -> Iterable[Metric]:
        """One counter by result."""
        family = CounterMetricFamily(
            "meet_index_activations", "Versions activated, or refused", labels=("result",)
        )
        for outcome in Outcome:
            family.add_metric((outcome.value,), self.outcomes.get(outcome, 0))
        yield family


def collectors(serving: Serving, version: str, device: str) -> list[Collector]:
    """What a server reports of its index, itself and its GPU, where it uses one."""
    always: list[Collector] = [
        IndexCollector(lambda: serving.engine),
        ActivationCollector(serving.outcomes),
        BuildCollector(version),
    ]
    return [*always, DeviceCollector(device)] if device.startswith(CUDA) else always


def gpu_memory(device: str) -> dict[str, int]:
    """Bytes by kind: in tensors, held for tensors, free and total on the device."""
    free, total = torch.cuda.mem_get_info(device)
    return {
        "allocated": torch.cuda.memory_allocated(device),
        "reserved": torch.cuda.memory_reserved(device),
        "free": free,
        "total": total,
    }


def age_seconds(created: str, now: float) -> float:
    """Seconds since an ISO 8601 time; 0 for what is none, or lies ahead of this clock."""
    try:
        then = datetime.fromisoformat(created).timestamp()
    except ValueError:
        return 0.0
    return max(0.0, now - then)
