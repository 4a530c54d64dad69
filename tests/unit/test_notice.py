"""What users are told before their guest moves: in both languages, for each way, and nothing that nobody knows."""

import re
from dataclasses import replace

import pytest

from ferryman.model.guest import State
from ferryman.model.phase import Phase
from ferryman.model.plan import Plan, Travel
from ferryman.model.request import CopyStorage, Options
from ferryman.model.units import GIB
from ferryman.plan.cold import cold_plan
from ferryman.plan.definition import definition_plan
from ferryman.plan.steps import live_plan
from ferryman.report.notice import Language, notice
from tests.unit.sites import good_site

AT = 1764385200.0  # 2025-11-29 03:00 UTC
STOPPED = Options(cold=True, stop_timeout=300.0)
ALL = replace(STOPPED, copy_storage=CopyStorage.ALL)
OFF = replace(good_site(), guest=replace(good_site().guest, state=State.SHUT_OFF))


def told(
    plan: Plan,
    language: Language,
    *,
    phase: Phase = Phase.QUEUED,
    begins: float | None = AT,
    options: Options = STOPPED,
) -> str:
    return notice(plan, options, request="9c7fa58b", phase=phase, begins=begins, language=language)


PLANS = {
    "live": live_plan(good_site(), Options()),
    "restart": cold_plan(good_site(), STOPPED),
    "copy": cold_plan(good_site(), ALL),
    "ahead": cold_plan(good_site(), replace(ALL, cold=False, warm=True)),
    "off": definition_plan(OFF, Options()),
    "off, copied": cold_plan(OFF, ALL),
}


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
@pytest.mark.parametrize("language", Language)
def test_it_is_a_mail_with_a_subject_that_names_guest_and_moment(plan: Plan, language: Language) -> None:
    text = told(plan, language)
    assert re.match(r"(Subject: |主题：).*web", text)
    assert "2025-11-29" in text
    assert "03:00" in text
    assert "9c7fa58b" in text
    assert not re.search(r"[{}]|None", text)
    assert not re.search(r"\b(a|b)-migration|libvirt|QEMU|cold\b", text)  # words of operators


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_the_chinese_one_has_its_own_signs_throughout(plan: Plan) -> None:
    text = told(plan, Language.ZH)
    assert not re.search(r"[,;!()](?!\d)|:(?!\d)", text)
    assert len(re.findall(r"[\u4e00-\u9fff]", text)) > 80


def test_live_it_is_seconds_at_most_and_connections_stay() -> None:
    assert "a few seconds at most" in told(PLANS["live"], Language.EN)
    assert "最多几秒" in told(PLANS["live"], Language.ZH)


def test_how_long_a_copy_takes_is_not_made_up() -> None:
    english = told(PLANS["copy"], Language.EN)
    assert "cannot be forecast" in english
    assert not re.search(r"\d+ minutes?", english)
    assert "无法预估" in told(PLANS["copy"], Language.ZH)


def test_what_is_copied_ahead_costs_minutes_and_no_copy_is_waited_for() -> None:
    assert "Expect a few minutes" in told(PLANS["ahead"], Language.EN)
    assert "cannot be forecast" not in told(PLANS["ahead"], Language.EN)
    assert "预计几分钟" in told(PLANS["ahead"], Language.ZH)


@pytest.mark.parametrize("language", Language)
def test_what_is_looked_through_or_copied_after_the_stop_is_not_promised_in_minutes(language: Language) -> None:
    plan = PLANS["ahead"]
    late = replace(plan.new_disks[0], target="vdb", travel=Travel.FILE, allocation=100 * GIB)
    forgets = tuple(replace(disk, remembers=False) for disk in plan.ahead)
    for slow in (replace(plan, new_disks=(*plan.new_disks, late)), replace(plan, ahead=forgets)):
        text = told(slow, language)
        assert ("cannot be forecast" if language is Language.EN else "无法预估") in text
        assert not re.search(r"few minutes|几分钟", text)
    assert "100 GiB" in told(replace(plan, new_disks=(*plan.new_disks, late)), language)


def test_one_whose_stop_comes_when_most_is_copied_is_not_told_to_stop_now() -> None:
    assert "shut down soon" in told(PLANS["ahead"], Language.EN, begins=None)
    assert "稍后" in told(PLANS["ahead"], Language.ZH, begins=None)


def test_an_operator_who_allows_a_long_downtime_has_it_announced() -> None:
    for language, words in ((Language.EN, "for 30 seconds at most"), (Language.ZH, "最多30 秒")):
        text = told(PLANS["live"], language, options=Options(max_downtime=30.0))
        assert words in text


def test_where_nothing_is_copied_it_is_the_time_to_shut_down_and_to_start() -> None:
    assert "up to 5 minutes to shut down" in told(PLANS["restart"], Language.EN)
    assert "最多需要 5 分钟" in told(PLANS["restart"], Language.ZH)


def test_a_guest_that_is_off_is_missed_by_nobody() -> None:
    for plan in ("off", "off, copied"):
        assert "cannot be switched on until the move is over" in told(PLANS[plan], Language.EN)


def test_what_will_be_lost_on_the_way_back_is_said() -> None:
    back = replace(PLANS["restart"], take_back="50c30035")
    assert "will not be there" in told(back, Language.EN)
    assert "不复存在" in told(back, Language.ZH)
    assert "will not be there" not in told(PLANS["restart"], Language.EN)


def test_one_under_way_begins_now() -> None:
    assert "another server of ours now." in told(PLANS["live"], Language.EN, phase=Phase.TRANSFERRING, begins=None)


@pytest.mark.parametrize("phase", [Phase.QUEUED, Phase.PREPARING, Phase.BACKING_UP, Phase.COPYING_AHEAD])
def test_one_that_waits_for_others_or_for_its_backup_begins_soon(phase: Phase) -> None:
    for plan in PLANS.values():
        assert "soon" in told(plan, Language.EN, phase=phase, begins=None)
