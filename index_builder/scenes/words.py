"""The words captions are made of: each fact has one or more, and no word tells two facts."""

from index_builder.scenes.scene import Background, Colour, Relation, Shape, Size

SHAPE_WORDS: dict[Shape, tuple[str, ...]] = {
    Shape.CIRCLE: ("circle", "circle", "disc"),
    Shape.SQUARE: ("square", "square", "box"),
    Shape.TRIANGLE: ("triangle",),
    Shape.STAR: ("star",),
    Shape.HEART: ("heart",),
    Shape.ARROW: ("arrow",),
    Shape.CROSS: ("cross", "cross", "plus sign"),
    Shape.RING: ("ring", "ring", "hoop"),
    Shape.CRESCENT: ("crescent", "crescent", "moon"),
    Shape.DIAMOND: ("diamond", "diamond", "rhombus"),
}

COLOUR_WORDS: dict[Colour, tuple[str, ...]] = {
    Colour.RED: ("red",),
    Colour.ORANGE: ("orange",),
    Colour.YELLOW: ("yellow",),
    Colour.GREEN: ("green",),
    Colour.TURQUOISE: ("turquoise", "turquoise", "teal"),
    Colour.BLUE: ("blue",),
    Colour.PURPLE: ("purple", "purple", "violet"),
    Colour.PINK: ("pink",),
    Colour.BROWN: ("brown",),
    Colour.BLACK: ("black",),
}

SIZE_WORDS: dict[Size, tuple[str, ...]] = {
    Size.SMALL: ("small", "tiny", "little"),
    Size.LARGE: ("large", "big", "huge"),
}

BACKGROUND_WORDS: dict[Background, tuple[str, ...]] = {
    Background.WHITE: ("white", "plain white"),
    Background.GREY: ("grey", "plain grey"),
    Background.DARK: ("dark", "plain dark"),
    Background.GRADIENT: ("gradient", "fading"),
    Background.STRIPED: ("striped", "stripy"),
    Background.CHECKERED: ("checkered", "checked"),
    Background.DOTTED: ("dotted", "spotted"),
    Background.GRIDDED: ("gridded", "grid"),
}

RELATION_WORDS: dict[Relation, tuple[str, ...]] = {
    Relation.LEFT_OF: ("left of", "to the left of", "on the left of"),
    Relation.RIGHT_OF: ("right of", "to the right of", "on the right of"),
    Relation.ABOVE: ("above", "over", "higher than"),
    Relation.BELOW: ("below", "under", "beneath", "lower than"),
}

VERBS = ("is", "sits", "lies", "stands", "appears")
GROUND_PREPOSITIONS = ("on", "against")
GROUND_NOUNS = ("background", "backdrop")
COUNT_WORDS = {2: "two", 3: "three", 4: "four"}
