"""Both directions' networks as one value: scores of shortlists, and one file on disk."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from model.core.errors import CheckpointError, CodeShapeError
from model.core.types import Direction, FloatArray
from model.rerankers.pillar.config import PillarConfig
from model.rerankers.pillar.lists import Lists, Surroundings, pillar_lists
from model.rerankers.pillar.neighbours import PillarSide
from model.rerankers.pillar.network import PillarNetwork

PILLAR_FILE = "pillar.safetensors"
_UNREADABLE = (
    OSError,
    SafetensorError,
    KeyError,
    ValidationError,
    CodeShapeError,
    RuntimeError,  # weights that do not fit the network
)


@dataclass(frozen=True)
class PillarReranker:
    """Orders shortlists by refined cosines; knows similarities alone, so it fits any encoder."""

    config: PillarConfig
    networks: Mapping[Direction, PillarNetwork]
    trained_on: str = ""

    @classmethod
    def untrained(cls, config: PillarConfig, seed: int, trained_on: str = "") -> "PillarReranker":
        """Networks with random weights, the same for a seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            networks = {direction: PillarNetwork(config) for direction in Direction}
        return cls(config, networks, trained_on)

    def scores(
        self, direction: Direction, queries: FloatArray, around: Surroundings, side: PillarSide
    ) -> FloatArray:
        """Refined cosines (B, C) of queries (B, D), unit rows, with their shortlists."""
        lists = pillar_lists(queries, around, side, self.config)
        return self.list_scores(direction, lists)[:, 1:]

    def list_scores(self, direction: Direction, lists: Lists) -> FloatArray:
        """Refined cosines (B, 1 + C) of whole lists, the query's own first."""
        network = self.networks[direction].eval()
        kind = network.projection.weight.dtype
        with torch.inference_mode():
            found = network.scores(lists.tokens.to(kind), lists.adjacency.to(kind))
        return found.numpy()

    @property
    def network_bytes(self) -> int:
        """Bytes of one direction's weights."""
        weights = next(iter(self.networks.values())).parameters()
        return sum(value.nbytes for value in weights)

    def halved(self) -> "PillarReranker":
        """A copy in bfloat16: half the weights to read, which is most of a query's time."""
        halves = {d: _fresh(self.config, n.state_dict()) for d, n in self.networks.items()}
        for network in halves.values():
            network.to(torch.bfloat16)
        return PillarReranker(self.config, halves, self.trained_on)

    def save(self, path: Path) -> None:
        """Write one safetensors file; its metadata holds the config."""
        tensors = {
            f"{direction}.{name}": value.detach().contiguous()
            for direction, network in self.networks.items()
            for name, value in network.state_dict().items()
        }
        metadata = {"config": self.config.model_dump_json(), "trained_on": self.trained_on}
        path.write_bytes(save(tensors, metadata=metadata))

    @classmethod
    def load(cls, path: Path) -> "PillarReranker":
        """A re-ranker from a file that `save` wrote.

        Raises:
            CheckpointError: the file cannot be read, or its arrays do not fit its config.
        """
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                config = PillarConfig.model_validate_json(metadata["config"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            networks = {d: _fresh(config, _under(f"{d}.", tensors)) for d in Direction}
            return cls(config, networks, metadata.get("trained_on", ""))
        except _UNREADABLE as error:
            raise CheckpointError(f"{path} holds no pillar re-ranker: {error}") from error


def _fresh(config: PillarConfig, weights: Mapping[str, Tensor]) -> PillarNetwork:
    """A network of its own with these weights."""
    with torch.device("meta"):
        network = PillarNetwork(config)
    network = network.to_empty(device="cpu")
    network.load_state_dict({name: value.clone() for name, value in weights.items()})
    return network


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
