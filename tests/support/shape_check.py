"""The checker of annotated shapes and types that the test run puts on every function of `model`."""

from typing import Any, Self

from beartype import BeartypeConf, FrozenDict, beartype
from pydantic import JsonValue

# The checker does not follow pydantic's recursive alias.
checked = beartype(conf=BeartypeConf(hint_overrides=FrozenDict({JsonValue: Any, Self: Any})))
