"""What a `with` block opens and must close."""

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class Closing(ABC):
    """Closed at the end of its `with` block; where that failed, given up instead."""

    @abstractmethod
    def close(self) -> None:
        """Finish and let go."""

    def give_up(self) -> None:
        """Let go after an error: the same, unless there is something to finish."""
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            self.give_up()
