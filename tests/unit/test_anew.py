"""A guest that is brought back never takes the place of a definition that somebody else made. By libvirt's own test driver."""

from collections.abc import Iterator

import libvirt
import pytest

from ferryman.drivers.libvirt import anew, mark
from ferryman.model.mark import Mark
from tests.unit.sites import UUID

OURS = Mark("r1", "somebody@here", 1.0, 2.0)


def definition(name: str = "web", memory: int = 1000) -> str:
    return f"<domain type='test'><name>{name}</name><uuid>{UUID}</uuid><metadata><o:x xmlns:o='urn:others'/></metadata><memory>{memory}</memory><os><type>hvm</type></os></domain>"


@pytest.fixture
def link() -> Iterator[libvirt.virConnect]:
    opened = libvirt.open("test:///default")
    yield opened
    for domain in opened.listAllDomains():
        if domain.UUIDString() == UUID:
            domain.undefine()
    opened.close()


def test_it_has_its_name_its_mark_and_what_others_keep_in_it(link: libvirt.virConnect) -> None:
    anew.define(link, definition(), OURS)
    anew.define(link, definition(), OURS)  # run again after a crash
    domain = link.lookupByUUIDString(UUID)
    assert (domain.name(), mark.read(domain)) == ("web", OURS)
    assert "urn:others" in domain.XMLDesc()
    assert anew.is_ours(link, UUID, "r1")
    assert not anew.is_ours(link, UUID, "r2")


def test_one_of_that_uuid_that_somebody_else_made_stays_as_it_is(link: libvirt.virConnect) -> None:
    link.defineXML(definition(memory=2000))
    with pytest.raises(libvirt.libvirtError, match="already defined"):
        anew.define(link, definition(), OURS)
    assert link.lookupByUUIDString(UUID).maxMemory() == 2000
    assert not anew.is_ours(link, UUID, "r1")


def test_one_whose_name_is_taken_meanwhile_is_ours_to_take_back(link: libvirt.virConnect) -> None:
    with pytest.raises(libvirt.libvirtError, match="test"):
        anew.define(link, definition("test"), OURS)  # a guest that the test driver begins with
    assert anew.is_ours(link, UUID, "r1")


def test_killed_before_it_was_marked_it_goes_on(link: libvirt.virConnect) -> None:
    link.defineXML(definition("ferryman-restore-r1"))
    assert anew.is_ours(link, UUID, "r1")
    anew.define(link, definition(), OURS)
    assert link.lookupByUUIDString(UUID).name() == "web"


def test_one_that_somebody_has_renamed_since_stays_as_it_is(link: libvirt.virConnect) -> None:
    anew.define(link, definition(), OURS)
    link.lookupByUUIDString(UUID).rename("web-old")
    anew.define(link, definition(), OURS)
    assert link.lookupByUUIDString(UUID).name() == "web-old"


def test_a_guest_that_is_not_there_is_nobodys(link: libvirt.virConnect) -> None:
    assert not anew.is_ours(link, UUID, "r1")
