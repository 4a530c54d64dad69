"""What is found before a move, on real hosts: segments, maintenance, CPUs, another's mark, the link, what the destination lacks."""

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ferryman.model.units import parse_size
from lab import guests, netns
from lab.guests import Guest, GuestSpec
from lab.host import Lab
from tests.lab.operators import REFUSED, SUCCEEDED, Operator, judge

pytestmark = pytest.mark.lab

SEGMENTS = {"other-segment", "segment-not-checked"}


def found(operator: Operator, guest: str, *more: str) -> dict[str, dict[str, Any]]:
    """The findings of `assess GUEST --to b` by their codes."""
    answer = operator.run("assess", guest, "--to", "b", "--json", *more)
    assert answer.stdout, answer.stderr
    return {finding["code"]: finding for finding in json.loads(answer.stdout)["findings"]}


def segments(operator: Operator, guest: str) -> set[str]:
    """The findings on segments. A probe that a busy machine did not get to ("not checked") is made again."""
    for _ in range(3):
        codes = SEGMENTS & set(found(operator, guest))
        if "segment-not-checked" not in codes:
            break
    return codes


@contextmanager
def defined(lab: Lab, name: str, *changes: tuple[str, str]) -> Iterator[None]:
    """A guest that is defined at host a with changes in its XML, and does not run."""
    guest = guests.define(lab, "a", GuestSpec(name=name))
    text = guests.definition(lab, guest)
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    lab.host("a").run(["virsh", "define", "/dev/stdin"], text_in=text)
    try:
        yield
    finally:
        guests.remove(lab, guest)


@contextmanager
def bridges(lab: Lab, *places: tuple[str, str]) -> Iterator[None]:
    """Bridges (host, name) without any uplink."""
    for host, name in places:
        namespace = lab.topology.namespace(host)
        netns.ip("link", "add", name, "type", "bridge", "stp_state", "0", "forward_delay", "0", namespace=namespace)
        netns.ip("link", "set", name, "up", namespace=namespace)
    try:
        yield
    finally:
        for host, name in places:
            netns.ip("link", "delete", name, namespace=lab.topology.namespace(host))


@contextmanager
def cable(lab: Lab, one: tuple[str, str], other: tuple[str, str]) -> Iterator[None]:
    """A cable between two bridges (host, name)."""
    namespaces = [lab.topology.namespace(host) for host, _ in (one, other)]
    netns.ip("link", "add", "uplink", "netns", namespaces[0], "type", "veth", "peer", "name", "uplink", "netns", namespaces[1])  # fmt: skip
    try:
        for namespace, (_, bridge) in zip(namespaces, (one, other), strict=True):
            netns.ip("link", "set", "uplink", "master", bridge, "up", namespace=namespace)
        time.sleep(1.5)  # a new cable carries when the kernel has noticed it, up to a second later
        yield
    finally:
        netns.ip("link", "delete", "uplink", namespace=namespaces[0])


def test_a_bridge_of_the_same_name_is_the_same_segment_when_a_frame_arrives_on_it(
    whole: Lab, guest: Guest, operator: Operator
) -> None:
    assert not segments(operator, guest.name)  # br0 of both hosts is on the lab's switch
    other_bridge = ("<source bridge='br0'/>", "<source bridge='lan'/>")
    with defined(whole, "apart", other_bridge), bridges(whole, ("a", "lan"), ("b", "lan"), ("b", "attic")):
        apart = found(operator, "apart")["other-segment"]
        assert "was not heard at b" in apart["why"]
        with cable(whole, ("a", "lan"), ("b", "attic")):
            elsewhere = found(operator, "apart")["other-segment"]
            assert "on attic, not on lan" in elsewhere["why"]
        with cable(whole, ("a", "lan"), ("b", "lan")):
            assert not segments(operator, "apart")


def test_what_the_destination_lacks_is_named_before(whole: Lab, operator: Operator) -> None:
    changes = (
        ("<kernel>/lab/boot/vmlinux</kernel>", "<kernel>/lab/boot/nothing</kernel>"),
        ("<vcpu>1</vcpu>", "<vcpu cpuset='70-71'>1</vcpu><numatune><memory mode='preferred' nodeset='5'/></numatune>"),
        ("<source bridge='br0'/>", "<source bridge='br9'/>"),
    )
    with defined(whole, "greedy", *changes):
        codes = found(operator, "greedy")
        assert {"boot-file-missing", "pinned-cpus", "numa-nodes", "bridge-missing"} <= set(codes)
        assert "/lab/boot/nothing" in codes["boot-file-missing"]["what"]
        assert "70-71" in codes["pinned-cpus"]["why"]


def test_clocks_that_differ_are_named(whole: Lab, guest: Guest, operator: Operator) -> None:
    """The clock of a lab's host is the machine's, so it is the program that reads it that runs ahead."""
    b = whole.host("b")
    b.run(["sh", "-c", "printf '#!/bin/sh\\nexec /bin/date --date=\"100 seconds\" \"$@\"\\n' > /usr/local/bin/date; chmod 755 /usr/local/bin/date"])  # fmt: skip
    try:
        skew = found(operator, guest.name)["clock-skew"]
        assert "b's is 100." in skew["why"] or "b's is 99." in skew["why"]
        assert skew["severity"] == "warning"
    finally:
        b.run(["rm", "/usr/local/bin/date"])


def test_no_guest_moves_to_a_host_in_maintenance_and_one_may_leave_it(
    whole: Lab, guest: Guest, operator: Operator
) -> None:
    assert operator.run("host", "maintenance", "b", "on", "--reason", "new disks").returncode == 0
    assert "maintenance (new disks)" in operator.run("hosts").stdout
    refused = operator.migrate(guest, "b")
    assert refused.returncode == REFUSED
    assert "host b: it is in maintenance: new disks" in refused.stdout
    assert operator.run("host", "maintenance", "a", "on").returncode == 0  # the source: no matter
    assert operator.run("host", "maintenance", "b", "off").returncode == 0
    assert "maintenance" not in found(operator, guest.name)
    judge(whole, guest, at="a", operator=operator)


def test_the_cpu_that_fits_both_hosts_is_one_that_both_can_give(whole: Lab, operator: Operator) -> None:
    told = json.loads(operator.run("cpu", "baseline", "a", "b", "--json").stdout)
    assert {loss["host"] for loss in told["losses"]} == {"a", "b"}
    assert [loss["loses"] for loss in told["losses"]] == [[], []]  # one machine: the hosts are alike
    for host in whole.hosts:
        compare = ["virsh", "hypervisor-cpu-compare", "--virttype", told["virtualization"], "--error", "/dev/stdin"]
        answer = host.run(compare, text_in=told["xml"])
        assert "identical" in answer.stdout or "superset" in answer.stdout, answer.stdout
    refused = operator.run("cpu", "baseline", "a", "nowhere")
    assert refused.returncode == REFUSED
    assert "host nowhere" in refused.stderr


@pytest.mark.whole
def test_another_operators_ferryman_sees_that_the_guest_is_being_moved(
    whole: Lab, guest: Guest, operator: Operator
) -> None:
    another = Operator(whole, "two")
    try:
        moving = operator.start_migration(guest, "b", "--bandwidth", "8M")
        operator.wait_for_bytes()
        seen = found(another, guest.name)
        assert {"being-moved", "job-running"} <= set(seen)
        assert f"request {operator.request_id()} of root@" in seen["being-moved"]["why"]
        assert another.run("unmark", guest.name).returncode == REFUSED
        assert moving.wait(120) == SUCCEEDED
        judge(whole, guest, at="b", operator=operator)  # and the mark is gone
    finally:
        another.leave()


def test_a_mark_that_a_dead_ferryman_left_refuses_others_until_it_is_recovered_or_removed(
    whole: Lab, guest: Guest, operator: Operator
) -> None:
    another = Operator(whole, "two")
    try:
        died = operator.migrate(guest, "b", crash="mark:after")
        assert died.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL)
        refused = another.migrate(guest, "b")
        assert refused.returncode == REFUSED
        assert f"request {operator.request_id()} of root@" in refused.stdout
        assert another.run("unmark", guest.name).returncode == REFUSED
        assert operator.run("unmark", guest.name, "--force").returncode == REFUSED  # our own: recover
        forced = another.run("unmark", guest.name, "--force")
        assert forced.returncode == 0, forced.stderr
        assert "being-moved" not in found(another, guest.name)
        assert operator.run("recover").returncode == SUCCEEDED  # a mark that is gone hinders nobody
        judge(whole, guest, at="b", operator=operator)
    finally:
        another.leave()


def test_a_link_is_measured_as_it_is(whole: Lab, guest: Guest, operator: Operator) -> None:
    a = whole.topology.namespace("a")
    netns.shape(a, "eth1", "80mbit")
    try:
        told = found(operator, guest.name, "--measure-link")["link-measured"]["why"]
        checked = json.loads(operator.run("host", "check", "b", "--measure-link", "--json").stdout)
    finally:
        netns.shape(a, "eth1", whole.topology.link)
    (line,) = [one["detail"] for one in checked if one["thing"] == "link from a to b-migration"]
    for words in (told, line):
        rate = parse_size(words.split("/s measured")[0].replace(" ", ""))
        assert 0.8 * 10_000_000 < rate < 1.2 * 10_000_000, words
