"""libvirt's own check is passed over only for what ferryman proved, and only where libvirt cannot be told."""

from dataclasses import replace

import libvirt
import pytest

from ferryman.assess import assess
from ferryman.drivers.libvirt.migration import flags_for
from ferryman.model.finding import blockers
from ferryman.model.plan import Order
from ferryman.model.request import CopyStorage, Handshake, Options
from ferryman.model.site import DiskReach, Reach, Site
from ferryman.plan.steps import live_plan
from tests.unit.sites import with_disk

UNDECLARABLE = DiskReach("vda", Reach.SAME, "a marker was seen", False, False)


def order(site: Site) -> Order:
    plan = live_plan(site, Options())
    return Order(Handshake.PEER, plan.peer_uri, plan.migration_uri, plan.persistent, Options(), vouched=plan.vouched)


@pytest.mark.parametrize("cache", ["none", "directsync"])
def test_a_proved_disk_past_the_page_cache_goes_with_the_flag(cache: str) -> None:
    site = with_disk(UNDECLARABLE, cache=cache)
    assert not blockers(assess(site, Options()))
    assert live_plan(site, Options()).vouched == ("vda",)
    assert flags_for(order(site)) & libvirt.VIR_MIGRATE_UNSAFE


@pytest.mark.parametrize("cache", ["", "writeback", "writethrough", "unsafe"])
def test_a_disk_behind_the_page_cache_is_refused(cache: str) -> None:
    site = with_disk(UNDECLARABLE, cache=cache)
    assert [finding.code for finding in blockers(assess(site, Options()))] == ["disk-cache"]
    assert live_plan(site, Options()).vouched == ()


@pytest.mark.parametrize(
    ("reach", "code"),
    [
        (replace(UNDECLARABLE, declarable=True), "shared-not-declared"),
        (replace(UNDECLARABLE, declarable=None), "shared-not-declared"),
        (replace(UNDECLARABLE, reach=Reach.UNPROVED), "disk-unproved"),
        (replace(UNDECLARABLE, reach=Reach.DIFFERENT), "disk-not-shared"),
    ],
)
def test_what_can_be_told_or_was_not_proved_is_never_vouched_for(reach: DiskReach, code: str) -> None:
    site = with_disk(reach)
    assert code in {finding.code for finding in blockers(assess(site, Options(copy_storage=CopyStorage.NEVER)))}
    assert live_plan(site, Options()).vouched == ()
    assert not flags_for(order(site)) & libvirt.VIR_MIGRATE_UNSAFE


def test_a_layer_that_was_not_proved_is_never_vouched_for() -> None:
    below = DiskReach("/srv/shared/base.qcow2", Reach.SAME, "a marker was seen")
    assert live_plan(with_disk(replace(UNDECLARABLE, layers=(below,))), Options()).vouched == ("vda",)
    site = with_disk(replace(UNDECLARABLE, layers=(replace(below, reach=Reach.DIFFERENT),)))
    assert "layer-not-shared" in {finding.code for finding in blockers(assess(site, Options()))}
    assert live_plan(site, Options()).vouched == ()


def test_a_disk_that_is_copied_needs_no_word() -> None:
    site = with_disk(UNDECLARABLE, cache="writeback")
    assert live_plan(site, Options(copy_storage=CopyStorage.ALL)).vouched == ()


def test_what_libvirt_knows_as_shared_goes_without_the_flag() -> None:
    site = with_disk(DiskReach("vda", Reach.SAME, "a marker was seen", True, True))
    assert not flags_for(order(site)) & libvirt.VIR_MIGRATE_UNSAFE


def test_a_shared_medium_that_nobody_writes_needs_no_word() -> None:
    site = with_disk(UNDECLARABLE, read_only=True, cache="")
    assert not blockers(assess(site, Options()))
    assert live_plan(site, Options()).vouched == ()
