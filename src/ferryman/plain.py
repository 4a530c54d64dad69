"""Nouns to plain values and back: what is stored, printed as JSON, or handed to a durable step is never a pickled class."""

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


def to_plain(value: Any) -> Any:
    """Dictionaries, lists, strings and numbers for a noun of model/ (or a tuple of them)."""
    return msgspec.to_builtins(value)


def from_plain(kind: type[T], value: Mapping[str, Any] | list[Any]) -> T:
    """The noun again. Unknown keys are ignored and missing ones take their default, so that older rows still read. Raises ValueError."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:  # a ValueError of its own from 0.21 on only
        raise ValueError(str(error)) from error


def to_json(value: Any, *, indent: int = 0) -> str:
    """JSON text of a noun or of plain values."""
    text = msgspec.json.encode(value)
    return (msgspec.json.format(text, indent=indent) if indent else text).decode()


def from_json(text: str) -> Any:
    """Plain values from JSON text. Raises ValueError."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise ValueError(str(error)) from error
