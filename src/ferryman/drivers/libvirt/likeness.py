"""Pure: in what a guest's definition differs from an earlier text of it, beside what a move itself does to it."""

from collections import Counter
from collections.abc import Sequence
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

_OURS = "{urn:ferryman:"


def differing(earlier: str, now: str, ejected: Sequence[str] = ()) -> tuple[str, ...]:
    """The elements that are others, each once by its name. Ours in the metadata do not count, nor do the drives `ejected` at all.

    Neither do spaces, and in which order attributes and devices are written.
    """
    before, after = (ElementTree.fromstring(text) for text in (earlier, now))
    then, present = (Counter(_parts(root, ejected)) for root in (before, after))
    return tuple(sorted({name for name, _ in ((then - present) + (present - then))}))


def _parts(root: Element, ejected: Sequence[str]) -> list[tuple[str, str]]:
    """(name, canonical text) of what the definition consists of."""
    found = [("domain", repr(sorted((name, value) for name, value in root.attrib.items() if name != "id")))]
    for element in root:
        if element.tag in ("devices", "metadata"):
            inner = [one for one in element if not (one.tag.startswith(_OURS) or _drive(one) in ejected)]
            found += [(one.tag if element.tag == "devices" else "metadata", _canonical(one)) for one in inner]
        else:
            found.append((element.tag.rpartition("}")[2], _canonical(element)))
    return found


def _drive(device: Element) -> str | None:
    target = device.find("target") if device.tag == "disk" else None
    return None if target is None else target.get("dev", "")


def _canonical(element: Element) -> str:
    return ElementTree.canonicalize(ElementTree.tostring(element, encoding="unicode"), strip_text=True)
