import pytest

from model.core.closing import Closing


class Ended(Closing):
    def __init__(self) -> None:
        self.how: list[str] = []

    def close(self) -> None:
        self.how.append("closed")


class Finished(Ended):
    def give_up(self) -> None:
        self.how.append("given up")


def test_a_block_that_ends_well_closes() -> None:
    with Finished() as one:
        assert one.how == []
    assert one.how == ["closed"]


@pytest.mark.parametrize(("kind", "how"), [(Ended, "closed"), (Finished, "given up")])
def test_a_block_that_fails_is_given_up_and_the_error_goes_on(kind: type[Ended], how: str) -> None:
    one = kind()
    with pytest.raises(KeyboardInterrupt), one:
        raise KeyboardInterrupt
    assert one.how == [how]
