"""A run's state after each epoch, so that a killed run goes on where it was."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from model.training.cache import replace_text

STATE, EPOCH = "state.safetensors", "state.json"


class RunState:
    """Saves and restores modules and an optimiser under a key that names the run."""

    def __init__(self, directory: Path, key: str) -> None:
        self._directory, self._key = directory, key

    def save(self, epoch: int, modules: Mapping[str, nn.Module], optimiser: Optimizer) -> None:
        """Record the state after `epoch`; the JSON file, renamed last, makes it valid."""
        self._directory.mkdir(parents=True, exist_ok=True)
        name = f"{epoch}-{STATE}"
        save_file(_tensors(modules, optimiser), self._directory / name)
        described = {"key": self._key, "epoch": epoch, "file": name}
        replace_text(self._directory / EPOCH, json.dumps(described))
        for old in self._directory.glob(f"*-{STATE}"):
            if old.name != name:
                old.unlink()

    def restore(self, modules: Mapping[str, nn.Module], optimiser: Optimizer) -> int:
        """The number of epochs already done, with their state in place; 0 for a new run.

        A state of another run, or one that cannot be read, is a new run.
        """
        try:
            described = json.loads((self._directory / EPOCH).read_text())
            if described["key"] != self._key:
                return 0
            tensors = load_file(self._directory / described["file"])
        except (OSError, ValueError, KeyError, SafetensorError):
            return 0
        for name, module in modules.items():
            module.load_state_dict(_under(f"{name}/", tensors))
        _restore_optimiser(optimiser, _under("optimiser/", tensors))
        return int(described["epoch"]) + 1

    def clear(self) -> None:
        """Forget the run: it is finished."""
        shutil.rmtree(self._directory, ignore_errors=True)


def _tensors(modules: Mapping[str, nn.Module], optimiser: Optimizer) -> dict[str, Tensor]:
    tensors = {
        f"{name}/{key}": value.contiguous().clone()
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {
            f"optimiser/{index}/{key}": torch.as_tensor(value) for key, value in state.items()
        }
    return tensors


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _restore_optimiser(optimiser: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    whole = optimiser.state_dict()
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, key = name.split("/")
        state.setdefault(int(index), {})[key] = value
    optimiser.load_state_dict({**whole, "state": state})
