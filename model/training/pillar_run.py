"""`meet-train pillar`: a pillar re-ranker for a checkpoint's own embeddings."""

from pathlib import Path

from model.core.errors import DataFormatError
from model.core.types import Modality
from model.rerankers.pillar.reranker import PILLAR_FILE
from model.training.embedder import Embedder
from model.training.pillar_options import PillarOptions
from model.training.pillar_pools import Pool, cut_pools
from model.training.pillar_training import run_key, train_pillar
from model.training.recipe import cache_of
from model.training.state import RunState

STATE = "pillar-state"


def run_pillar(
    checkpoint: Path, data: str, out: Path | None, options: PillarOptions, device: str
) -> Path:
    """Train on the train split of `data`; returns the file that was written.

    Raises:
        CheckpointError: there is no checkpoint to open.
        DataFormatError: the train split is too small for a pool.
    """
    options.config()  # a width that does not fit is said before the encoder runs
    pools = own_pools(checkpoint, data, options, device)
    state = RunState(cache_of(checkpoint) / STATE, run_key(pools, options))
    reranker = train_pillar(pools, options, f"{Path(data).name}:train", state)
    target = out or checkpoint / PILLAR_FILE
    target.parent.mkdir(parents=True, exist_ok=True)
    reranker.save(target)
    state.clear()
    return target


def own_pools(checkpoint: Path, data: str, options: PillarOptions, device: str) -> list[Pool]:
    """Galleries cut from the checkpoint's own embeddings of the train split.

    The encoder has seen these pairs: pools embedded by encoders of other folds look more like
    the galleries to come, and may be handed to `train_pillar` in their place.
    """
    split = Embedder.open(checkpoint, device).split(data, "train")
    if len(split.embeddings[Modality.IMAGE]) < 2:
        raise DataFormatError(f"{data}:train needs two images or more to rank, got 1")
    return cut_pools(split, options.pool_images, options.seed)
