import pytest

from model.core.errors import DataFormatError
from model.data.records import check_ids


@pytest.mark.parametrize("name", [".", ".."])
def test_an_id_that_an_address_takes_for_a_step_is_refused(name: str) -> None:
    check_ids(["...", "a/../b", ".a"], "a manifest")
    with pytest.raises(DataFormatError, match=f"'{name}'"):
        check_ids(["a", name], "a manifest")
