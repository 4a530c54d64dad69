"""A definition with everything that people and tools write into it moves with a stopped guest, and what only runs is told of."""

import json
import re
from dataclasses import replace

import pytest

from lab import guests
from lab.host import Lab
from tests.lab.operators import REFUSED, SUCCEEDED, Operator
from tests.lab.test_cold import IMAGES, SPEC, image_of, judged, started

pytestmark = pytest.mark.lab

LOCAL = replace(SPEC, disks=("local",), title="Web & mail".replace("&", "&amp;"), description="two\nlines")
METADATA = """<metadata xmlns:out="urn:out"><a xmlns="urn:y"><b n="1"/></a><ns0:c xmlns:ns0="urn:z" ns0:d="&lt;"><out:e/></ns0:c>
  <f:g xmlns:f="urn:f"><!-- said -->  ä <![CDATA[<raw>&]]></f:g></metadata>"""
FILTER = "<filter name='ferryman-lab' chain='root'/>"


def enriched(text: str) -> str:
    """With metadata, limits and a network filter."""
    limits = "<iotune><total_iops_sec>5000</total_iops_sec></iotune>"
    text = re.sub(r"(<target dev='vda'[^>]*/>)", rf"\1{limits}", text)
    text = re.sub(r"(<source bridge='br0'/>)", r"\1<filterref filter='ferryman-lab'/>", text)
    return text.replace("<memory ", f"{METADATA}<memory ", 1)


def lasting(lab: Lab, host: str) -> str:
    text = lab.host(host).run(["virsh", "dumpxml", "--inactive", "--security-info", SPEC.name]).stdout
    return re.sub(r"<source file='[^']*'", "<source file=''", text)


def test_metadata_limits_and_a_filter_are_at_the_destination_as_they_were(whole: Lab, operator: Operator) -> None:
    a, b = whole.host("a"), whole.host("b")
    with started(whole, LOCAL) as guest:
        a.run(["virsh", "destroy", guest.name])
        a.run(["virsh", "nwfilter-define", "/dev/stdin"], text_in=FILTER)
        text = a.run(["virsh", "dumpxml", "--inactive", guest.name]).stdout
        a.run(["virsh", "define", "/dev/stdin"], text_in=enriched(text))
        a.run(["virsh", "start", guest.name])
        guests.wait_healthy(whole, guest)
        before = lasting(whole, "a")
        assert 'xmlns="urn:y"' in before
        refused = operator.migrate(guest, "b", "--cold")
        assert refused.returncode == REFUSED, refused.stdout
        assert "nwfilter-define" in refused.stdout + refused.stderr
        b.run(["virsh", "nwfilter-define", "/dev/stdin"], text_in=FILTER)
        moved = operator.migrate(guest, "b", "--cold")
        assert moved.returncode == SUCCEEDED, moved.stdout + moved.stderr
        judged(whole, guest, operator, "b")
        assert lasting(whole, "b") == before
    for host in (a, b):
        host.run(["virsh", "nwfilter-undefine", "ferryman-lab"], check=False)


def test_what_only_runs_stays_and_what_is_only_defined_comes_along(whole: Lab, operator: Operator) -> None:
    a, b = whole.host("a"), whole.host("b")
    with started(whole, LOCAL) as guest:
        for name, how in (("live", "--live"), ("later", "--config")):
            path = f"{IMAGES}/stood-{name}.raw"
            a.run(["sh", "-c", f"printf {name} >{path}; truncate -s 1M {path}"])
            a.run(["virsh", "attach-disk", guest.name, path, "vdx" if name == "live" else "vdy", how, "--subdriver", "raw", "--cache", "none"])  # fmt: skip
        told = json.loads(operator.run("assess", guest.name, "--to", "b", "--cold", "--json").stdout)["findings"]
        assert {"live-only", "defined-only"} <= {finding["code"] for finding in told}
        moved = operator.migrate(guest, "b", "--cold")
        assert moved.returncode == SUCCEEDED, moved.stdout + moved.stderr
        judged(whole, guest, operator, "b")
        assert "vdx" not in b.run(["virsh", "domblklist", guest.name]).stdout
        assert b.run(["head", "-c", "5", image_of(whole, "b", "vdy")]).stdout == "later"
        assert a.run(["head", "-c", "4", f"{IMAGES}/stood-live.raw"]).stdout == "live"
        assert "stood-live" not in str(operator.last()["left_to_retire"])
