"""`meet-train`: a VSE, heads for any encoder, re-rankers, or the papers' checkpoints."""

import argparse
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from model.core.command import Parser, checked, exit_status, require_folder
from model.core.errors import InputError
from model.encoders.opening import named_device
from model.rerankers.learned.reranker import LEARNED_FILE
from model.rerankers.pillar.reranker import PILLAR_FILE
from model.training.learned_options import LearnedOptions
from model.training.learned_run import run_learned
from model.training.options import HeadsOptions, VSEOptions
from model.training.pillar_options import RECIPES, PillarOptions, PillarRecipe
from model.training.pillar_run import run_pillar
from model.training.recipe import run_heads, run_vse
from model.training.released.importing import run_import
from model.training.vse_run import BIGRU

AnyOptions = type[VSEOptions] | type[HeadsOptions] | type[PillarOptions] | type[LearnedOptions]
Options = TypeVar("Options", VSEOptions, PillarOptions)

# What did best on Flickr8k's dev split; `benchmarks/flickr8k.md` has the figures.
BIGRU_RECIPE = VSEOptions(epochs=8)
TRANSFORMER_RECIPE = VSEOptions(epochs=5)
# A backbone's features are wide: more of them have to go.
VISION_REGION_DROPOUT = 0.5


def parser() -> argparse.ArgumentParser:
    """The command line."""
    root = Parser(prog="meet-train", description=__doc__)
    commands = root.add_subparsers(dest="command", required=True)
    vse = commands.add_parser("vse", help="train a visual-semantic embedding and its heads")
    vse.add_argument("--text", default=BIGRU, help="bigru, or a transformers text encoder")
    vse.add_argument("--vision", help="a transformers vision backbone: directory or hub name")
    vse.add_argument("--seed", type=int, default=0)
    _options(vse, VSEOptions, skip=("seed",), by_recipe=True)
    heads = commands.add_parser("heads", help="train heads for a frozen encoder")
    heads.add_argument("--encoder", required=True, help="checkpoint, directory or hub name")
    heads.add_argument("--held-out", type=float, default=BIGRU_RECIPE.held_out)
    heads.add_argument("--seed", type=int, default=0)
    for command in (vse, heads):
        command.add_argument("--data", required=True, help="a data set with a train split")
        command.add_argument("--out", type=Path, required=True, help="checkpoint directory")
        command.add_argument("--device", default="cpu", help="cpu or cuda")
        _options(command, HeadsOptions, prefix="heads-", skip=("seed",))
    _add_pillar(commands.add_parser("pillar", help="train a pillar re-ranker for a checkpoint"))
    _add_learned(commands.add_parser("learned", help="train a learned re-ranker for a checkpoint"))
    _add_import(commands.add_parser("import", help="bring in a released ESA or MEET checkpoint"))
    return root


def _add_pillar(command: argparse.ArgumentParser) -> None:
    _add_reranker(command, PILLAR_FILE)
    command.add_argument(
        "--recipe",
        type=PillarRecipe,
        choices=list(PillarRecipe),
        default=PillarRecipe.FAST,
        help="the defaults of the flags below: of two CPU cores, or the released ones",
    )
    command.add_argument("--seed", type=int, default=0)
    _options(command, PillarOptions, skip=("seed",), by_recipe=True)


def _add_learned(command: argparse.ArgumentParser) -> None:
    _add_reranker(command, LEARNED_FILE)
    _options(command, LearnedOptions)


def _add_reranker(command: argparse.ArgumentParser, file: str) -> None:
    command.add_argument("--checkpoint", type=Path, required=True, help="whose encoder it is for")
    command.add_argument("--data", required=True, help="a data set with a train split")
    command.add_argument("--out", type=Path, help=f"the file ({file} in CHECKPOINT)")
    command.add_argument("--device", default="cpu", help="where the encoder runs: cpu or cuda")


def _add_import(command: argparse.ArgumentParser) -> None:
    command.add_argument("--checkpoint", type=Path, required=True, help="the released .pth file")
    command.add_argument("--out", type=Path, required=True, help="checkpoint directory")
    command.add_argument("--vocabulary", type=Path, help="its JSON vocabulary, or BERT's vocab.txt")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line: 0, or 2 with one sentence for bad input."""
    return exit_status("meet-train", lambda: _run(parser().parse_args(argv)))


def _run(told: argparse.Namespace) -> None:
    _check_out(told)
    RUNS[told.command](told)


def _check_out(told: argparse.Namespace) -> None:
    """Refuse, before an hour of work, a place that its result cannot be written to."""
    if told.command not in MAKES_FILE:
        require_folder("out", told.out)
    elif told.out is not None and told.out.is_dir():
        raise InputError(f"--out is the file to write, got the folder {told.out}")


def _run_vse(told: argparse.Namespace) -> None:
    heads = _heads_options(told)
    recipe = BIGRU_RECIPE if told.text == BIGRU else TRANSFORMER_RECIPE
    if told.vision is not None:
        recipe = recipe.model_copy(update={"region_dropout": VISION_REGION_DROPOUT})
    options = _by_recipe(told, VSEOptions, recipe)
    device = named_device(told.device)
    run_vse(told.data, told.out, told.text, told.vision, options, heads, device)


def _run_heads(told: argparse.Namespace) -> None:
    if not 0 < told.held_out < 1:
        raise InputError(f"--held-out is a share in (0, 1), got {told.held_out}")
    options = _heads_options(told)
    run_heads(told.data, told.out, told.encoder, told.held_out, options, told.device)


def _run_pillar(told: argparse.Namespace) -> None:
    options = _by_recipe(told, PillarOptions, RECIPES[told.recipe])
    named_device(told.device)
    run_pillar(told.checkpoint, told.data, told.out, options, told.device)


def _run_learned(told: argparse.Namespace) -> None:
    options = checked(LearnedOptions, _told(told, LearnedOptions, ""))
    named_device(told.device)
    run_learned(told.checkpoint, told.data, told.out, options, told.device)


def _run_import(told: argparse.Namespace) -> None:
    run_import(told.checkpoint, told.out, told.vocabulary)


MAKES_FILE = {"pillar", "learned"}
RUNS = {
    "vse": _run_vse,
    "heads": _run_heads,
    "pillar": _run_pillar,
    "learned": _run_learned,
    "import": _run_import,
}


def _heads_options(told: argparse.Namespace) -> HeadsOptions:
    given = _told(told, HeadsOptions, "heads_", skip=("seed",))
    return checked(HeadsOptions, {**given, "seed": told.seed}, "heads-")


def _by_recipe(told: argparse.Namespace, options: type[Options], recipe: Options) -> Options:
    """The recipe's options but for what was told."""
    given = {n: v for n, v in _told(told, options, "").items() if v is not None}
    return checked(options, {**recipe.model_dump(), **given})


def _options(
    command: argparse.ArgumentParser,
    options: AnyOptions,
    prefix: str = "",
    skip: Sequence[str] = (),
    *,
    by_recipe: bool = False,
) -> None:
    """One flag per field, with the field's type; its default, or None to ask the recipe."""
    group = command.add_argument_group(f"{options.__name__}")
    for name, field in options.model_fields.items():
        if name not in skip:
            flag = "--" + prefix + name.replace("_", "-")
            default = None if by_recipe else field.default
            group.add_argument(flag, default=default, **_kind(field.annotation))


def _kind(annotation: object) -> dict[str, Any]:
    """How a flag of a field's type is read."""
    if annotation is bool:
        return {"action": argparse.BooleanOptionalAction}
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return {"type": annotation, "choices": list(annotation)}
    return {"type": int if annotation is int else float}


def _told(
    told: argparse.Namespace,
    options: AnyOptions,
    prefix: str,
    skip: Sequence[str] = (),
) -> dict[str, Any]:
    return {n: getattr(told, prefix + n) for n in options.model_fields if n not in skip}


if __name__ == "__main__":
    sys.exit(main())
