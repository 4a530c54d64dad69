"""Plain values: what cannot be read is a ValueError, whichever msgspec is installed (its own errors are none before 0.21)."""

from collections.abc import Callable

import msgspec
import pytest

from ferryman.execute.shelf import manifest_of
from ferryman.model.host import Host
from ferryman.plain import from_json, from_plain


@pytest.mark.parametrize(
    "read",
    [lambda: from_json('{"torn'), lambda: from_plain(Host, {"name": 1}), lambda: manifest_of(b'{"format": 1, "gue')],
)  # fmt: skip
def test_what_cannot_be_read_is_a_value_error(read: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"truncated|Expected|missing|required") as error:
        read()
    assert not isinstance(error.value, msgspec.MsgspecError)
