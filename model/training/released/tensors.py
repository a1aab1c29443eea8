"""A released module's tensors, taken one by one under their names."""

from collections.abc import Mapping

import torch
from torch import Tensor

from model.core.errors import CheckpointError

Shape = tuple[int | None, ...]
_PARALLEL = "module."


class Tensors:
    """A state that must be taken whole: what is missing, misshapen or left over is refused.

    Names lose the prefix that data-parallel training gives them.
    """

    def __init__(self, where: str, state: object) -> None:
        """Take a state dictionary.

        Raises:
            CheckpointError: it is none, or holds something else than tensors.
        """
        if not isinstance(state, Mapping):
            raise CheckpointError(f"{where} needs a state dictionary, got {type(state).__name__}")
        for key, value in state.items():
            if not isinstance(value, Tensor):
                kind = type(value).__name__
                raise CheckpointError(f"{where}: {key} needs a tensor, got {kind}")
        self.where = where
        self._left: dict[str, Tensor] = {
            str(key).removeprefix(_PARALLEL): value for key, value in state.items()
        }

    @property
    def keys(self) -> list[str]:
        """The names that are still there."""
        return list(self._left)

    def take(self, key: str, shape: Shape) -> Tensor:
        """The tensor of a name, as float where it is one; None in a shape fits any size.

        Raises:
            CheckpointError: it is not there or has another shape.
        """
        self.shape(key, shape)
        found = self._left.pop(key)
        return found.float() if found.is_floating_point() else found

    def shape(self, key: str, wanted: Shape) -> tuple[int, ...]:
        """The shape of a tensor that stays.

        Raises:
            CheckpointError: it is not there or has another shape.
        """
        if key not in self._left:
            held = ", ".join(sorted(self._left)[:8]) or "nothing else"
            raise CheckpointError(f"{self.where} lacks {key}, it holds {held}")
        got = tuple(self._left[key].shape)
        fits = (w in (None, g) for w, g in zip(wanted, got, strict=False))
        if len(got) != len(wanted) or not all(fits):
            shown = ", ".join("any" if size is None else str(size) for size in wanted)
            raise CheckpointError(f"{self.where}: {key} needs shape ({shown}), got {got}")
        return got

    def take_linear(self, key: str, out_dim: int | None, in_dim: int | None) -> dict[str, Tensor]:
        """A linear map's weight (out, in) and bias (out,)."""
        weight = self.take(f"{key}.weight", (out_dim, in_dim))
        return {"weight": weight, "bias": self.take(f"{key}.bias", (len(weight),))}

    def take_only_linear(self, out_dim: int | None, in_dim: int) -> dict[str, Tensor]:
        """The weight and bias of a state that is one linear map, under whatever name.

        Raises:
            CheckpointError: it is not one linear map, or has another shape.
        """
        names = {key.rpartition(".")[0] for key in self._left}
        if len(names) != 1:
            got = ", ".join(sorted(self._left)) or "nothing"
            raise CheckpointError(f"{self.where} needs one weight and one bias, got {got}")
        name = names.pop()
        place = f"{name}." if name else ""
        weight = self.take(f"{place}weight", (out_dim, in_dim))
        linear = {"weight": weight, "bias": self.take(f"{place}bias", (len(weight),))}
        self.done()
        return linear

    def done(self) -> None:
        """Refuse what nobody took.

        Raises:
            CheckpointError: there is a tensor with an unknown name.
        """
        for key, value in self._left.items():
            raise CheckpointError(
                f"{self.where} holds the unknown key {key} of shape {tuple(value.shape)}"
            )


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under names that start with a prefix."""
    return {f"{prefix}.{name}": value for name, value in tensors.items()}


def contiguous(tensor: Tensor) -> Tensor:
    """A float tensor of its own memory, as files are written from."""
    return torch.clone(tensor, memory_format=torch.contiguous_format)
