"""The outside of a released checkpoint: a pickle of tensors and options, and nothing else."""

import pickle
import re
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.serialization import safe_globals

from model.core.errors import CheckpointError
from model.core.types import Modality
from model.training.released.tensors import Tensors

CODEBOOKS = {Modality.IMAGE: "C_img", Modality.TEXT: "C_txt"}
_ESA, _MEET = len(Modality), 3 * len(Modality)
# Vectors that are not normalised have no cosine, which every later stage ranks by.
_UNNORMALISED = ("no_imgnorm", "no_txtnorm")


@dataclass(frozen=True)
class Released:
    """A checkpoint's states by modality; ESA is encoders alone, with the attention in them.

    `codebooks` are MEET's, (M·L, K).
    """

    encoders: Mapping[Modality, Tensors]
    attentions: Mapping[Modality, Tensors] = field(default_factory=dict)
    projections: Mapping[Modality, Tensors] = field(default_factory=dict)
    codebooks: Mapping[Modality, Tensor] = field(default_factory=dict)


def read_released(path: Path) -> Released:
    """What a checkpoint file of ESA or MEET holds.

    Raises:
        CheckpointError: the file is no such checkpoint, or holds more than tensors and options.
    """
    content = _load(path)
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} needs a dictionary, got {type(content).__name__}")
    for key in ("model", "opt"):
        if key not in content:
            raise CheckpointError(f"{path} lacks {key!r}, it holds {', '.join(map(str, content))}")
    _check_options(path, content["opt"])
    states = content["model"]
    if not isinstance(states, Sequence) or len(states) not in (_ESA, _MEET):
        got = str(len(states)) if isinstance(states, Sequence) else type(states).__name__
        raise CheckpointError(
            f"{path}: 'model' needs a list of {_ESA} states (ESA) or of {_MEET} (MEET), got {got}"
        )
    encoders = _named("encoder", states[:2])
    if len(states) == _ESA:
        return Released(encoders)
    attentions, projections = _named("attention", states[2:4]), _named("projection", states[4:])
    return Released(encoders, attentions, projections, _codebooks(path, content))


def _named(role: str, states: Sequence[object]) -> dict[Modality, Tensors]:
    pairs = zip(Modality, states, strict=True)
    return {m: Tensors(f"the {m} {role} state", state) for m, state in pairs}


def _load(path: Path) -> Any:  # noqa: ANN401
    """The file's content; only tensors, containers, plain values and a Namespace are built."""
    try:
        with safe_globals([Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no checkpoint {path}") from error
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        what = f"asks for {found.group(1)}" if found else "holds something else"
        raise CheckpointError(
            f"{path} needs to hold tensors and an argparse.Namespace alone, it {what}"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path} is no checkpoint of torch: {reason}") from error


def _check_options(path: Path, options: object) -> None:
    if not isinstance(options, Namespace):
        raise CheckpointError(f"{path}: 'opt' needs a Namespace, got {type(options).__name__}")
    for name in _UNNORMALISED:
        if getattr(options, name, False):
            raise CheckpointError(f"{path}: embeddings need unit length, got opt.{name}=True")


def _codebooks(path: Path, content: Mapping[str, object]) -> dict[Modality, Tensor]:
    books = {}
    for modality, name in CODEBOOKS.items():
        book = content.get(name)
        if not isinstance(book, Tensor) or book.ndim != 2:
            got = tuple(book.shape) if isinstance(book, Tensor) else type(book).__name__
            raise CheckpointError(f"{path}: {name} needs a tensor (M·L, K), got {got}")
        books[modality] = book.float()
    return books
