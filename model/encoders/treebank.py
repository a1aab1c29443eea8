"""Penn Treebank words, as the released vocabularies were counted.

The rules are those of the treebank's published tokeniser, on lower-case text: marks stand apart
except inside numbers and hyphenated words, contractions are split, double quotes open as ``` `` ```
and close as `''`. A full stop stands apart at every end of a word, abbreviations included.
"""

import re

_OPENING = re.compile(r"(?<![^\s(\[{<])(?:\"|'')")
_MARKS = re.compile(
    r"\.\.\.|--|`+|''|[;@#$%&?!()\[\]{}<>]|[,:](?!\d)"
    r"|(?<=[^\s'])'(?=\s|$)"  # a closing single quote
    r"|(?<!\.)\.(?=[])}>'\"]*(?:\s|$))"
)
_CONTRACTED = re.compile(
    r"(?<=.)(?=n't$|'(?:s|m|d|ll|re|ve)$)"
    r"|(?<=^can)(?=not$)|(?<=^gim)(?=me$)|(?<=^gon)(?=na$)|(?<=^got)(?=ta$)"
    r"|(?<=^lem)(?=me$)|(?<=^wan)(?=na$)|(?<=^'t)(?=is$|was$)"
)


def treebank_words(text: str) -> list[str]:
    """Lower-case words and marks, in order."""
    quoted = _OPENING.sub(" `` ", text.lower()).replace('"', " '' ")
    spaced = _MARKS.sub(lambda mark: f" {mark.group()} ", quoted)
    return [part for word in spaced.split() for part in _CONTRACTED.split(word) if part]
