"""What libvirt knows of checkpoints survives the way out of a host and back. By libvirt's own test driver."""

import re
from collections.abc import Iterator
from dataclasses import replace
from xml.etree import ElementTree

import libvirt
import pytest

from ferryman.drivers.libvirt import checkpoints
from ferryman.model.guest import Checkpoint
from tests.unit.sites import UUID

DOMAIN = f"""<domain type='test'><name>web</name><uuid>{UUID}</uuid><memory>1000</memory><os><type>hvm</type></os><devices>
  <disk type='file' device='disk'><driver type='qcow2'/><source file='/srv/web.qcow2'/><target dev='vda'/></disk>
</devices></domain>"""


@pytest.fixture
def link() -> Iterator[libvirt.virConnect]:
    opened = libvirt.open("test:///default")
    yield opened
    opened.close()


def removed(domain: libvirt.virDomain) -> None:
    """As QEMU's driver does by one flag, which the test driver does not have."""
    for one in domain.listAllCheckpoints():
        one.delete(libvirt.VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY)
    domain.undefine()


def long_ago(checkpoint: Checkpoint) -> Checkpoint:
    """One that is not made anew at this very second."""
    return replace(checkpoint, xml=re.sub(r"<creationTime>\d+<", "<creationTime>1000<", checkpoint.xml))


def times(checkpoint: Checkpoint) -> tuple[str | None, str | None]:
    """When it was made, and upon which other: what a redefinition must keep."""
    root = ElementTree.fromstring(checkpoint.xml)
    return root.findtext("creationTime"), root.findtext("parent/name")


def test_they_are_as_before_in_a_definition_that_is_put_back(link: libvirt.virConnect) -> None:
    domain = link.defineXML(DOMAIN)
    domain.create()
    for name in ("one", "two", "three"):
        domain.checkpointCreateXML(f"<domaincheckpoint><name>{name}</name></domaincheckpoint>")
    domain.destroy()
    before = tuple(long_ago(one) for one in checkpoints.read(domain))
    assert [one.name for one in before] == ["one", "two", "three"]
    removed(domain)
    domain = link.defineXML(DOMAIN)
    domain.create()  # QEMU's driver takes them of one that is off too (tests/lab/test_checkpoints.py)
    assert checkpoints.read(domain) == ()
    checkpoints.make_known(domain, before[:1])
    checkpoints.make_known(domain, before)  # after a crash: the first is known already
    assert [(one.name, times(one)) for one in checkpoints.read(domain)] == [(one.name, times(one)) for one in before]
    domain.destroy()
    removed(domain)
