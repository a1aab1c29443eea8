import pytest

from model.core.errors import CheckpointError
from model.encoders.treebank import treebank_words
from model.encoders.vocabulary import Vocabulary, WordRule

RELEASED = ("<pad>", "<start>", "<end>", "<unk>", "a", "dog", "'s", "toy", ".")


# Sentences of the treebank tokeniser's own documentation and regression tests, in lower case.
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("They'll save and invest more.", "they 'll save and invest more ."),
        ("hi, my name can't hello,", "hi , my name ca n't hello ,"),
        (
            "On a $50,000 mortgage the payment would be $366.88.",
            "on a $ 50,000 mortgage the payment would be $ 366.88 .",
        ),
        ('"We beat some teams," Slocum said.', "`` we beat some teams , '' slocum said ."),
        (
            'this cliche-ridden, "Touched by an Angel" (a show) wanna-be if she didn\'t.',
            "this cliche-ridden , `` touched by an angel '' ( a show ) wanna-be if she did n't .",
        ),
        ("I cannot cannot work!", "i can not can not work !"),
        ("the dogs' toys ... a man's hat", "the dogs ' toys ... a man 's hat"),
        ("", ""),
    ],
)
def test_words_are_those_of_the_treebank(text: str, words: str) -> None:
    assert treebank_words(text) == words.split()


def test_a_released_vocabulary_keeps_its_ids_and_marks_both_ends() -> None:
    vocabulary = Vocabulary(RELEASED, WordRule.RELEASED)
    assert len(vocabulary) == 9
    assert vocabulary.ids("A dog's big toy.", 20) == [1, 4, 5, 6, 3, 7, 8, 2]
    assert vocabulary.ids("", 20) == [1, 2]
    assert vocabulary.ids("a a a a", 4) == [1, 4, 4, 2]


@pytest.mark.parametrize(
    ("words", "said"),
    [(RELEASED[:3], "needs the word <unk>"), (("a", *RELEASED), "<pad> needs the id 0, got 1")],
)
def test_a_released_vocabulary_without_its_special_words_is_refused(
    words: tuple[str, ...], said: str
) -> None:
    with pytest.raises(CheckpointError, match=said):
        Vocabulary(words, WordRule.RELEASED)
