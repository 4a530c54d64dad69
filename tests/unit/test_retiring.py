"""What may be retired, decided without a host: the image goes only where every fact speaks for it."""

from dataclasses import replace

import pytest

from ferryman.model.guest import Disk
from ferryman.model.host import ImageUsers
from ferryman.model.outcome import KeptCopy
from ferryman.model.request import Request
from ferryman.verify.disks import Evidence, against_retiring, home
from ferryman.verify.location import Action, Verdict
from tests.unit.sites import UUID, good_guest

OLD, NEW = "/images/web.qcow2", "/images/new.qcow2"
REQUEST = Request("there0000", UUID, "web", "a", "b")
COPY = KeptCopy("a", OLD, 4096, "vda")
FORWARD = Verdict(Action.FORWARD, "it runs at b")


def on(*images: str) -> tuple[Disk, ...]:
    return tuple(Disk(f"vd{'abc'[number]}", "disk", "file", image, "qcow2", "none", False, False) for number, image in enumerate(images))  # fmt: skip


GOOD = Evidence(replace(good_guest(), host="b", disks=on(NEW)), True, frozenset({NEW}), False, ImageUsers())


def test_the_copy_goes_when_the_guest_runs_on_what_was_made_of_it() -> None:
    assert against_retiring(REQUEST, COPY, FORWARD, GOOD) is None
    assert against_retiring(REQUEST, COPY, FORWARD, replace(GOOD, guest=replace(GOOD.guest, disks=on(NEW, OLD)), apart=True)) is None  # fmt: skip


@pytest.mark.parametrize("copied_whole", [True, False])
@pytest.mark.parametrize("action", Action)
def test_the_guest_must_be_at_one_host_for_sure(action: Action, copied_whole: bool) -> None:
    plain = {Action.FORWARD: "b", Action.BACK: "a"}
    if copied_whole:  # it was off when it was moved, and both ends' digests are the same
        plain[Action.STOPPED_AT_DESTINATION] = "b"
    assert home(REQUEST, Verdict(action, ""), copied_whole=copied_whole) == plain.get(action, "")


def test_without_a_home_it_stays() -> None:
    found = against_retiring(REQUEST, COPY, Verdict(Action.ATTENTION, "it runs twice"), None)
    assert found is not None
    assert found.why == "it may be the last copy: it runs twice"


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        (replace(GOOD, guest=replace(GOOD.guest, disks=())), "vda is not found at b"),
        (replace(GOOD, guest=replace(GOOD.guest, disks=on(""))), "vda is not found at b"),
        (replace(GOOD, found=False), "vda is not found at b"),
        (replace(GOOD, made=frozenset()), "no move in these records made of it"),
        (replace(GOOD, guest=replace(GOOD.guest, disks=on(NEW, OLD))), "not proved that the two hosts have different storage"),
        (replace(GOOD, users=ImageUsers(("guest mail", "snapshot one of guest wiki"))), "guest mail and snapshot one of guest wiki at a stands upon it"),
        (replace(GOOD, users=ImageUsers((), ("/gone/top.qcow2 of guest mail (no such file)",))), "it is not known who stands upon it"),
    ],
)  # fmt: skip
def test_each_fact_that_speaks_against_it_keeps_it(seen: Evidence, why: str) -> None:
    found = against_retiring(REQUEST, COPY, FORWARD, seen)
    assert found is not None
    assert found.what == f"{OLD} at a"
    assert why in found.why
    assert found.remedy
