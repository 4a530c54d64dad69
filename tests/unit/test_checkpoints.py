"""What libvirt knows of checkpoints survives the way out of a host and back. By libvirt's own test driver."""

from collections.abc import Iterator

import libvirt
import pytest

from ferryman.drivers.libvirt import checkpoints
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
    domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA)


def test_they_are_as_before_in_a_definition_that_is_put_back(link: libvirt.virConnect) -> None:
    domain = link.defineXML(DOMAIN)
    domain.create()
    for name in ("one", "two", "three"):
        domain.checkpointCreateXML(f"<domaincheckpoint><name>{name}</name></domaincheckpoint>")
    domain.destroy()
    before = checkpoints.read(domain)
    assert [one.name for one in before] == ["one", "two", "three"]
    removed(domain)
    domain = link.defineXML(DOMAIN)
    assert checkpoints.read(domain) == ()
    checkpoints.make_known(domain, before[:1])
    checkpoints.make_known(domain, before)  # after a crash: the first is known already
    assert checkpoints.read(domain) == before
    removed(domain)
