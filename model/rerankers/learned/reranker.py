"""The networks of both directions and both kinds of bank as one value, and one file on disk."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from model.core.errors import CheckpointError
from model.core.types import Direction, FloatArray
from model.rerankers.learned.network import LearnedConfig, ListNetwork

LEARNED_FILE = "learned.safetensors"
_UNREADABLE = (OSError, SafetensorError, KeyError, ValueError, RuntimeError)


class Case(NamedTuple):
    """What a network is for: a direction, and whose items the reverse lists rank."""

    direction: Direction
    own_bank: bool  # the gallery's own, not those of a bank that was given

    def __str__(self) -> str:
        """The name of its tensors in a file."""
        return f"{self.direction}.{'own' if self.own_bank else 'given'}"


CASES = tuple(Case(direction, own) for direction, own in product(Direction, (False, True)))


@dataclass(frozen=True)
class LearnedReranker:
    """Orders lists by their terms; knows no embeddings, so it fits any encoder.

    `gain` is how far it raised rSum above relationship on pairs that it had not learned from.
    """

    config: LearnedConfig
    networks: Mapping[Case, ListNetwork]
    trained_on: str = ""
    gain: float = 0.0

    @classmethod
    def untrained(
        cls, config: LearnedConfig, trained_on: str = "", dropout: float = 0.0
    ) -> "LearnedReranker":
        """Networks that score all candidates alike."""
        return cls(config, {case: ListNetwork(config, dropout) for case in CASES}, trained_on)

    def scores(self, case: Case, terms: FloatArray) -> FloatArray:
        """Scores (L,) of one list's terms (L, F), higher = better."""
        given = torch.from_numpy(terms)[None]
        with torch.inference_mode():
            live = torch.ones(given.shape[:2], dtype=torch.bool)
            found: FloatArray = self.networks[case].eval()(given, live)[0].numpy()
        return found

    def save(self, path: Path) -> None:
        """Write one safetensors file; its metadata holds the config."""
        tensors = {
            f"{case}.{name}": value.detach().contiguous()
            for case, network in self.networks.items()
            for name, value in network.state_dict().items()
        }
        metadata = {
            "config": self.config.model_dump_json(),
            "trained_on": self.trained_on,
            "gain": repr(self.gain),
        }
        path.write_bytes(save(tensors, metadata=metadata))

    @classmethod
    def load(cls, path: Path) -> "LearnedReranker":
        """A re-ranker from a file that `save` wrote.

        Raises:
            CheckpointError: the file cannot be read, or its arrays do not fit its config.
        """
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return cls._of_tensors(tensors, metadata)
        except _UNREADABLE as error:
            raise CheckpointError(f"{path} holds no learned re-ranker: {error}") from error

    @classmethod
    def _of_tensors(
        cls, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
    ) -> "LearnedReranker":
        config = LearnedConfig.model_validate_json(metadata["config"])
        found = cls.untrained(config, metadata.get("trained_on", ""))
        for case, network in found.networks.items():
            prefix = f"{case}."
            network.load_state_dict(
                {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            )
        return replace(found, gain=float(metadata["gain"]))
