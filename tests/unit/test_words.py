"""What a newcomer reads: the way out of an ssh that does not work, verdicts, options as they are typed, what is left."""

import pytest

from ferryman.drivers import ssh
from ferryman.drivers.libvirt.errors import translate
from ferryman.model.finding import blocker, note
from ferryman.model.hook import Event, Hook
from ferryman.model.outcome import KeptCopy, PhaseEntry, Report, UndoEntry
from ferryman.model.request import Options, Request
from ferryman.surfaces.cli import render
from tests.unit.test_libvirt_errors import Provoked

WAYS_OUT = [
    ("Host key verification failed.", "log in once by hand and compare the key that it shows: ssh root@a true"),
    ("root@a: Permission denied (publickey,password).", "ssh-copy-id root@a"),
    ("ssh: connect to host a port 22: Connection refused", "ssh root@a true"),
]


@pytest.mark.parametrize(("words", "way_out"), WAYS_OUT)
def test_ssh_that_does_not_work_names_the_command_that_mends_it(words: str, way_out: str) -> None:
    assert way_out in ssh.remedy(words, "root@a")


@pytest.mark.parametrize(("words", "way_out"), WAYS_OUT[:2])
def test_so_does_libvirt_by_way_of_ssh(words: str, way_out: str) -> None:
    told = translate(
        Provoked(38, f"Cannot recv data: {words}: Connection reset by peer"), "host a", "qemu+ssh://root@a/system"
    )
    assert way_out in told.remedy


BLOCKER, NOTE = blocker("no-room", "pool", "full", "make room"), note("tpm", "a TPM", "it travels")


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ((), "web may move to b: nothing speaks against it"),
        ((NOTE,), "web may move to b, with 1 more finding above"),
        ((BLOCKER,), "web may NOT move to b: 1 blocker"),
        ((BLOCKER, BLOCKER, NOTE, NOTE), "web may NOT move to b: 2 blockers, 2 more findings above"),
    ],
)
def test_a_verdict_counts_as_people_do(
    capsys: pytest.CaptureFixture[str], found: tuple[object, ...], expected: str
) -> None:
    render.verdict("web", "b", found)  # type: ignore[arg-type]
    assert capsys.readouterr().out.strip() == expected


def test_a_report_names_options_as_they_were_typed_and_what_is_left_where(capsys: pytest.CaptureFixture[str]) -> None:
    options = Options(bandwidth=8 * 1024**2, max_downtime=0.5, insecure=True, map_pool={"default": "fast"})
    told = Report(
        Request("abcd1234", "uuid", "web", "a", "b", options, "op@desk"), None, "verifying", (PhaseEntry("verifying", 10.0),),
        undo=(UndoEntry("remove-mark", "a", "dropped"),), left_to_retire=(KeptCopy("a", "/pool/web.qcow2", 1024**2, "vda"),),
    )  # fmt: skip
    render.report(told)
    shown = capsys.readouterr().out
    assert "with --bandwidth 8 MiB/s --max-downtime 500 ms --insecure --map-pool default=fast\n" in shown
    assert "undo remove-mark: not needed\n" in shown
    assert "left to retire: kept at a: /pool/web.qcow2 (1 MiB)\n" in shown


def test_a_plan_names_who_will_be_told(capsys: pytest.CaptureFixture[str]) -> None:
    render.hooks([Hook("drain", (Event.BEFORE_STOP, Event.FAILURE)), Hook("chat", (Event.ATTENTION,))])
    assert capsys.readouterr().out == "  hooks: drain (before-stop, failure); chat (attention)\n"
    render.hooks([])
    assert capsys.readouterr().out == ""
