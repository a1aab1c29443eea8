"""Write scene galleries: `python -m index_builder.scenes --out DIR --split test=1000`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from index_builder.scenes.generate import generate_gallery
from index_builder.scenes.split import SceneSplit
from model.core.command import BAD_INPUT
from model.core.errors import InputError
from model.progress import bar

_DEFAULT_SEED = 7
_BAR_DELAY_S = 0.5


class SplitOrder(NamedTuple):
    """How many scenes of a split are wanted."""

    split: SceneSplit
    n_scenes: int


class _Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one sentence, without the usage text."""

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"{message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0 when every split is there, 2 for bad input."""
    options = _parser().parse_args(arguments)
    try:
        for order in options.split:
            _generate(options.out, order, options.seed)
    except (InputError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return BAD_INPUT
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m index_builder.scenes", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the gallery")
    parser.add_argument(
        "--split", type=_order, action="append", required=True, metavar="NAME=COUNT"
    )
    parser.add_argument("--seed", type=int, default=_DEFAULT_SEED)
    return parser


def _order(text: str) -> SplitOrder:
    name, _, count = text.partition("=")
    if name not in set(SceneSplit) or not count.isdecimal():
        names = ", ".join(SceneSplit)
        raise argparse.ArgumentTypeError(
            f"a split is NAME=COUNT with a name of {names}, got {text}"
        )
    return SplitOrder(SceneSplit(name), int(count))


def _generate(directory: Path, order: SplitOrder, seed: int) -> None:
    # The delay keeps a refused order to its one sentence and a finished one silent.
    with bar(total=order.n_scenes, desc=order.split, unit="scene", delay=_BAR_DELAY_S) as shown:
        generate_gallery(directory, order.split, order.n_scenes, seed, on_scene=shown.update)


if __name__ == "__main__":
    sys.exit(main())
