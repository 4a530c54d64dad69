"""A definition that is changed for the destination keeps, byte for byte, what others wrote into it. By libvirt's own test driver."""

import re
from collections.abc import Iterator

import libvirt
import pytest

from ferryman.drivers.libvirt import snapshots
from ferryman.drivers.libvirt.adapt import adapted
from ferryman.model.guest import Snapshot
from ferryman.model.plan import Changes, Identity, Volume
from tests.unit.sites import UUID

# What libvirt takes and hands out again: a default namespace, a prefix that ElementTree gives out itself, declarations at
# the outside, content that looks like the XML around it, and text that is another one once it was parsed.
METADATA = """<metadata xmlns:out="urn:out">
    <a xmlns="urn:y"><b n="1"/></a>
    <ns0:c xmlns:ns0="urn:z" ns0:d="&lt;&quot;&#10;>"><out:e/><metadata><kept number="0"/></metadata></ns0:c>
    <libosinfo:libosinfo xmlns:libosinfo="http://libosinfo.org/xmlns/libvirt/domain/1.0"><libosinfo:os id="http://debian.org/debian/12"/></libosinfo:libosinfo>
    <f:g xmlns:f="urn:f"><!-- said -->  a&#13;b äöü 漢字 <![CDATA[<raw>&]]></f:g>
  </metadata>"""
DESCRIPTION = "<description>two\nlines &amp; one\tmore </description>"
DOMAIN = f"""<domain type='test'>
  <name>web</name><uuid>{UUID}</uuid><title>Web &amp; mail</title>{DESCRIPTION}{METADATA}
  <memory>1000</memory><os><type>hvm</type></os><devices>
  <disk type='file' device='disk'><source file='/srv/here/web.qcow2'/><target dev='vda'/></disk>
  <interface type='bridge'><source bridge='br0'/><mac address='52:54:00:00:00:01'/></interface>
</devices></domain>"""
MOVED = Changes((Volume("vda", "there", "web-2.qcow2", "/srv/there/web-2.qcow2"),), {"br0": "br1"}, links_down=True)


@pytest.fixture
def link() -> Iterator[libvirt.virConnect]:
    opened = libvirt.open("test:///default")
    yield opened
    with_snapshots = libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    opened.lookupByUUIDString(UUID).undefineFlags(with_snapshots)
    opened.close()


def of_others(xml: str) -> list[str]:
    return re.findall(r"<metadata.*</metadata>|<description>.*?</description>|<title>.*?</title>", xml, re.DOTALL)


def laid_flat(texts: list[str]) -> list[str]:
    """libvirt indents what is nested anew."""
    return [re.sub(r"\n *", "\n", text) for text in texts]


def test_metadata_title_and_description_are_at_the_destination_as_they_were(link: libvirt.virConnect) -> None:
    before = link.defineXML(DOMAIN).XMLDesc()
    after = link.defineXML(adapted(before, MOVED)).XMLDesc()
    assert of_others(after) == of_others(before)
    assert len(of_others(after)) == 3
    assert "<source file='/srv/there/web-2.qcow2'/>" in after
    assert "<source bridge='br1'/>" in after
    assert after.count("<link state='down'/>") == 1


def test_a_change_leaves_every_other_byte_alone_also_where_libvirt_was_not_asked_before() -> None:
    (metadata, description, _) = sorted(of_others(DOMAIN), key=lambda text: "<metadata" not in text)
    after = adapted(DOMAIN, MOVED)
    assert metadata in after
    assert description in after
    assert "<domain type=" in after


def test_what_is_declared_for_the_whole_definition_is_so_again() -> None:
    text = (
        "<domain xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><metadata><qemu:note>one</qemu:note></metadata>"
        "<devices /><qemu:commandline><qemu:arg value='-s' /></qemu:commandline></domain>"
    )
    assert adapted(text, Changes(links_down=True)) == text.replace("'", '"')


def test_an_empty_element_of_others_is_no_hindrance() -> None:
    for empty in ("<metadata/>", "<metadata a='>'/>", "<metadata></metadata>"):
        assert "<metadata" in adapted(f"<domain>{empty}<devices/></domain>", MOVED)


def test_a_snapshot_holds_a_whole_definition_or_two_with_all_of_that(link: libvirt.virConnect) -> None:
    domain = link.defineXML(DOMAIN)
    inner = domain.XMLDesc()
    outer = inner.replace("<domain ", "<inactiveDomain ").replace("</domain>", "</inactiveDomain>")
    text = (
        f"<domainsnapshot><name>before</name><description>a &gt; b\nc</description><state>shutoff</state><creationTime>1</creationTime>"
        f"<memory snapshot='no'/><disks><disk name='vda' snapshot='internal'/></disks>{inner}{outer}</domainsnapshot>"
    )
    snapshots.make_known(domain, (Snapshot("before", text, current=True),), MOVED)
    (found,) = snapshots.read(domain)
    assert found.current
    one, other = (re.findall(rf"<{name} .*</{name}>", found.xml, re.DOTALL)[0] for name in ("domain", "inactiveDomain"))
    for moved in (one, other):
        assert laid_flat(of_others(moved)) == laid_flat(of_others(inner))
        assert "/srv/there/web-2.qcow2" in moved
        assert "<source bridge='br1'/>" in moved


def test_a_second_guest_has_nothing_by_which_it_could_be_taken_for_the_first() -> None:
    text = DOMAIN.replace(
        "<memory>",
        f"<genid>{UUID}</genid><sysinfo type='smbios'><system><entry name='uuid'>{UUID}</entry><entry name='serial'>kept</entry></system></sysinfo><memory>",
    ).replace("<os>", "<os><nvram>/nvram/web_VARS.fd</nvram>")
    other = Identity("second", "6a1f0f3e-0000-4000-8000-000000000002", ("52:54:00:00:00:02",), "/nvram/second_VARS.fd")
    changed = adapted(text, Changes(identity=other))
    for gone in (UUID, "52:54:00:00:00:01", "/nvram/web_VARS.fd", "<name>web<"):
        assert gone not in changed
    assert changed.count(other.uuid) == 2
    for there in ("<name>second<", "52:54:00:00:00:02", "/nvram/second_VARS.fd", ">kept<"):
        assert there in changed
    assert of_others(changed) == of_others(text)
