"""How every command line ends: 0, 2 with one sentence for what the caller can mend, or 130."""

import sys
from collections.abc import Callable

from model.core.errors import MeetError

BAD_INPUT, INTERRUPTED = 2, 130


def exit_status(prog: str, run: Callable[[], None]) -> int:
    """The exit status of a command's work; its error goes to stderr in one line."""
    try:
        run()
    except (MeetError, OSError) as error:
        message = " ".join(str(error).split())
        print(f"{prog}: {message}", file=sys.stderr)  # noqa: T201
        return BAD_INPUT
    except KeyboardInterrupt:
        print(f"{prog}: interrupted", file=sys.stderr)  # noqa: T201
        return INTERRUPTED
    return 0
