"""`meet-train learned`: a learned re-ranker for a checkpoint, cross-fitted on a train split."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from model.checkpoint import open_checkpoint
from model.rerankers.learned.network import ListNetwork
from model.rerankers.learned.reranker import CASES, LEARNED_FILE, Case, LearnedReranker
from model.rerankers.weights import StageTwo
from model.training.cross_fit import cross_fitted
from model.training.learned_lists import TermLists, lists_of_fold
from model.training.learned_options import LearnedOptions
from model.training.learned_training import scored, train_network

Folds = Sequence[Mapping[Case, TermLists]]


def run_learned(
    checkpoint: Path, data: str, out: Path | None, options: LearnedOptions, device: str
) -> Path:
    """Train on the train split of `data`; returns the file that was written.

    Raises:
        CheckpointError: there is no checkpoint to open.
        DataFormatError: the train split is too small for its folds.
    """
    stage_two = open_checkpoint(checkpoint, device).stage_two or StageTwo()
    cut = cross_fitted(checkpoint, data, options.folds, options.fold_images, options.seed, device)
    folds = [lists_of_fold(fold, stage_two, options.candidates) for fold in cut]
    gain = _gain(folds, options)
    networks = _networks(folds, options)
    target = out or checkpoint / LEARNED_FILE
    target.parent.mkdir(parents=True, exist_ok=True)
    LearnedReranker(options.config, networks, f"{Path(data).name}:train", gain).save(target)
    return target


def _gain(folds: Folds, options: LearnedOptions) -> float:
    """How far networks of the other folds raise the last one's recalls, on average.

    The sum over both directions of R@1 + R@5 + R@10, the mean of both kinds of bank.
    """
    rest, last = folds[:-1], folds[-1]
    gains = []
    for case, network in _networks(rest, options).items():
        before, after = last[case].recall(), last[case].recall(scored(network, last[case]))
        tqdm.write(f"{case}, a fold not learned from: {before:.1f} -> {after:.1f}")
        gains.append(after - before)
    return sum(gains) / 2


def _networks(folds: Folds, options: LearnedOptions) -> dict[Case, ListNetwork]:
    return {
        case: train_network(TermLists.joined([fold[case] for fold in folds]), options, str(case))
        for case in CASES
    }
