"""The VSE's training loop: contrastive, averaged over steps, the same for a seed."""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from model.core.metrics import Recalls, ranks_of_pairs
from model.core.types import FloatArray, Modality, RowArray
from model.encoders.backbone import GridBackbone
from model.encoders.towers import VSE
from model.progress import bar
from model.training.features import WordSource
from model.training.losses import contrastive_loss
from model.training.options import VSEOptions
from model.training.state import RunState

_EVALUATION_ROWS = 256


@dataclass(frozen=True)
class SplitFeatures:
    """One split as the towers see it."""

    images: NDArray[np.floating]  # (N, R, F) regions or (N, 3, H, W) pixels
    words: WordSource
    image_of_text: RowArray  # (T,)


Batches = Callable[[int, np.random.Generator], Iterator[RowArray]]


class Trained(nn.Module):
    """Everything that learns: the towers, the temperature, and a backbone that is not frozen."""

    def __init__(self, vse: VSE, backbone: GridBackbone | None, temperature: float) -> None:
        super().__init__()
        self.vse, self.backbone = vse, backbone
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / temperature)))

    def images(self, features: Tensor) -> Tensor:
        """Unit embeddings (B, D) of regions or pixels."""
        regions = features if self.backbone is None else self.backbone(features)
        return self.vse.embed_regions(regions)

    def texts(self, words: Tensor, valid: Tensor) -> Tensor:
        """Unit embeddings (B, D) of word ids or word features."""
        features = words if self.vse.words is None else self.vse.words(words, valid)
        embeddings: Tensor = self.vse.text(features, valid)
        return embeddings

    @property
    def scale(self) -> Tensor:
        """The inverse temperature, at most 100."""
        return self.log_scale.exp().clamp(max=100)


def train_vse(
    model: Trained,
    train: SplitFeatures,
    dev: SplitFeatures | None,
    batches: Batches,
    options: VSEOptions,
    state: RunState,
    device: torch.device,
) -> Trained:
    """The averaged model after all epochs; prints the loss and, given some, dev pairs' rSum."""
    model.to(device)
    averaged = copy.deepcopy(model)
    optimiser = _optimiser(model, options)
    modules = {"model": model, "averaged": averaged}
    first = state.restore(modules, optimiser)
    for epoch in range(first, options.epochs):
        loss = _epoch(epoch, model, averaged, train, batches, optimiser, options, device)
        shown = "" if dev is None else f", dev rSum {evaluate(averaged, dev, device).rsum:.1f}"
        tqdm.write(f"epoch {epoch + 1}/{options.epochs}: loss {loss:.3f}{shown}")
        state.save(epoch, modules, optimiser)
    return averaged


def embed(
    model: Trained, features: SplitFeatures, device: torch.device
) -> dict[Modality, FloatArray]:
    """Unit embeddings of a split's images (N, D) and captions (T, D), in evaluation mode."""
    model.eval()
    texts = range(len(features.image_of_text))
    with torch.inference_mode():
        images = [
            model.images(_tensor(features.images[block], device))
            for block in _blocks(len(features.images))
        ]
        words = [
            model.texts(*(t.to(device) for t in features.words.batch(np.array(texts[block]))))
            for block in _blocks(len(texts))
        ]
    model.train()
    return {
        Modality.IMAGE: torch.cat(images).float().cpu().numpy(),
        Modality.TEXT: torch.cat(words).float().cpu().numpy(),
    }


def evaluate(model: Trained, features: SplitFeatures, device: torch.device) -> Recalls:
    """Recalls of a split by cosine."""
    embeddings = embed(model, features, device)
    similarities = embeddings[Modality.IMAGE] @ embeddings[Modality.TEXT].T
    return Recalls.of(*ranks_of_pairs(similarities, features.image_of_text))


def _epoch(
    epoch: int,
    model: Trained,
    averaged: Trained,
    train: SplitFeatures,
    batches: Batches,
    optimiser: torch.optim.Optimizer,
    options: VSEOptions,
    device: torch.device,
) -> float:
    """One pass over the captions: the mean loss."""
    # Dropout depends on the epoch, not on what ran before: a resumed run repeats the rest.
    torch.manual_seed(options.seed * 100_003 + epoch)
    model.train()
    rng = np.random.default_rng((options.seed, epoch))
    rows_of = list(batches(options.batch_size, rng))
    losses = []
    progress = bar(rows_of, desc=f"epoch {epoch + 1}/{options.epochs}", leave=False)
    for step, rows in enumerate(progress):
        share = (epoch * len(rows_of) + step) / (options.epochs * len(rows_of))
        for group in optimiser.param_groups:
            group["lr"] = options.learning_rate * _schedule(share)
        losses.append(_step(model, train, rows, optimiser, device))
        _average(averaged, model, options.averaging)
        progress.set_postfix(loss=f"{losses[-1]:.3f}", refresh=False)
    return float(np.mean(losses))


def _step(
    model: Trained,
    train: SplitFeatures,
    rows: RowArray,
    optimiser: torch.optim.Optimizer,
    device: torch.device,
) -> float:
    owners = train.image_of_text[rows]
    with torch.autocast(device.type, torch.bfloat16, enabled=_fast_bfloat16(device)):
        images = model.images(_tensor(train.images[owners], device)).float()
        texts = model.texts(*(t.to(device) for t in train.words.batch(rows))).float()
    loss = contrastive_loss(images, texts, torch.from_numpy(owners).to(device), model.scale)
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(model.parameters(), 2.0)
    optimiser.step()
    return float(loss.detach())


def _fast_bfloat16(device: torch.device) -> bool:
    """Whether matrix products in bfloat16 are faster here: some CPUs only emulate them."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    # It has no public name before torch 2.12.
    return bool(torch.cpu._is_avx512_bf16_supported())


def _schedule(share: float, warm_up: float = 0.1) -> float:
    """The learning rate's factor: linear up, then a cosine to zero."""
    if share < warm_up:
        return share / warm_up
    return (1 + math.cos(math.pi * (share - warm_up) / (1 - warm_up))) / 2


def _average(averaged: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the average towards the model; counters are copied."""
    with torch.no_grad():
        for old, new in zip(
            averaged.state_dict().values(), model.state_dict().values(), strict=True
        ):
            if old.dtype.is_floating_point:
                old.lerp_(new, 1 - decay)
            else:
                old.copy_(new)


def _optimiser(model: Trained, options: VSEOptions) -> torch.optim.Optimizer:
    """AdamW; vectors (biases, norms, the temperature) do not decay."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": options.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=options.learning_rate)


def _tensor(features: NDArray[np.floating], device: torch.device) -> Tensor:
    return torch.from_numpy(np.asarray(features, np.float32)).to(device)


def _blocks(count: int) -> Iterator[slice]:
    return (slice(i, i + _EVALUATION_ROWS) for i in range(0, count, _EVALUATION_ROWS))
