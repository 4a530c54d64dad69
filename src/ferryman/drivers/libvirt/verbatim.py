"""Pure: libvirt's XML read so that it can be written again. Prefixes stay as they are; what belongs to others stays byte for byte.

ElementTree by itself makes prefixes of its own and moves every declaration to the root, where libvirt stumbles over a default one.
"""

import re
from dataclasses import dataclass
from xml.etree.ElementTree import Element, TreeBuilder, tostring
from xml.parsers import expat

_OF_OTHERS = "metadata"


@dataclass(frozen=True)
class Document:
    """An element to be changed, with placeholders for what is not ours to read."""

    root: Element
    kept: tuple[str, ...]


def read(xml: str) -> Document:
    """What `write` turns into the same text again, but for what was changed in between. Names bear their prefixes as written."""
    raw, kept = xml.encode(), []
    for begin, end in reversed(_places(raw)):
        kept.append(raw[begin:end].decode())
        raw = raw[:begin] + f"<kept number='{len(kept) - 1}'/>".encode() + raw[end:]
    builder = TreeBuilder()
    parser = expat.ParserCreate("utf-8")
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.Parse(raw, True)
    return Document(builder.close(), tuple(kept))


def write(document: Document) -> str:
    """The element as text, with what was kept in its place."""
    text = tostring(document.root, encoding="unicode")
    return re.sub(r'<kept number="(\d+)" />', lambda found: document.kept[int(found[1])], text)


def _places(raw: bytes) -> list[tuple[int, int]]:
    """Where each outermost element that is not ours begins and ends. One without content has nothing to keep."""
    parser = expat.ParserCreate("utf-8")
    open_at: list[int] = []  # where the elements begin that the parser is in, from one that is not ours on
    places: list[tuple[int, int]] = []

    def enter(name: str, _: object) -> None:
        if open_at or name == _OF_OTHERS:
            open_at.append(parser.CurrentByteIndex)

    def leave(_: str) -> None:
        begin, end = open_at.pop() if open_at else 0, parser.CurrentByteIndex
        if begin and not open_at and end > begin:
            places.append((begin, raw.index(b">", end) + 1))

    parser.StartElementHandler, parser.EndElementHandler = enter, leave
    parser.Parse(raw, True)
    return places
