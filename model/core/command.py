"""What every command line does alike: flags become options, an error one line and a status."""

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn, TypeVar

from pydantic import ValidationError

from model.core.errors import CodeShapeError, InputError, MeetError
from model.core.types import Frozen

BAD_INPUT, INTERRUPTED = 2, 130

Options = TypeVar("Options", bound=Frozen)


def checked(kind: type[Options], values: Mapping[str, object], prefix: str = "") -> Options:
    """Options of these values, each told by the flag of its name behind a prefix.

    Raises:
        InputError: names the first flag that breaks its rule.
        CodeShapeError: values that do not fit together.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        if not first["loc"]:
            raise CodeShapeError(first["msg"]) from error
        flag = prefix + str(first["loc"][0]).replace("_", "-")
        raise InputError(f"--{flag}: {first['msg']}, got {first['input']!r}") from error


class Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one sentence, without the usage text."""

    def error(self, message: str) -> NoReturn:
        """Leave it to `exit_status`."""
        raise InputError(message)


def require_folder(flag: str, path: Path) -> None:
    """Check that a folder is at this path or can be made there.

    Raises:
        InputError: a file is in the way.
    """
    there = next((place for place in (path, *path.parents) if place.exists()), None)
    if there is not None and not there.is_dir():
        where = "the file" if there == path else f"{path} below the file"
        raise InputError(f"--{flag} needs to be a folder, got {where} {there}")


def exit_status(prog: str, run: Callable[[], None], *, go_on: str = "") -> int:
    """0, 2 after one line of what the caller can mend, or 130 for an interruption.

    `go_on` says what an interrupted work needs to go on.
    """
    try:
        run()
    except (MeetError, OSError) as error:
        message = " ".join(str(error).split())
        print(f"{prog}: {message}", file=sys.stderr)  # noqa: T201
        return BAD_INPUT
    except KeyboardInterrupt:
        hint = f"; {go_on}" if go_on else ""
        print(f"{prog}: interrupted{hint}", file=sys.stderr)  # noqa: T201
        return INTERRUPTED
    return 0
