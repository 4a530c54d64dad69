"""The command line itself: the manual page, completion, and orders that make no sense."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ferryman.drivers.database.records import open_records
from ferryman.model.host import Host
from ferryman.model.phase import Phase
from ferryman.model.request import Options, Request
from ferryman.plan.steps import live_plan
from ferryman.surfaces.cli import program, render
from ferryman.surfaces.cli.manual import commands, manual
from ferryman.surfaces.cli.serve import _as_line
from tests.unit.sites import good_site

ROOT = Path(__file__).resolve().parents[2]


def ferryman(state: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ferryman", *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "FERRYMAN_STATE_DIRECTORY": str(state), **environment},
    )  # fmt: skip


@pytest.fixture
def state(tmp_path: Path) -> Path:
    records = open_records(tmp_path)
    for name in ("alpha", "albert", "beta"):
        records.add_host(Host(name, f"qemu+tls://{name}/system"))
    records.add_request(Request("abcd1234", "uuid", "web", "alpha", "beta"), "slot0")
    records.engine.dispose()
    return tmp_path


def test_the_manual_page_is_the_one_that_dev_man_writes() -> None:
    assert (ROOT / "docs/ferryman.1").read_text() == manual(program), "run ./dev man"


def test_the_manual_page_names_every_command_and_option() -> None:
    page = manual(program).replace("\\-", "-")
    for words, command in commands(program):
        assert f".SS ferryman {words}" in page
        section = page.split(f".SS ferryman {words}", 1)[1].split("\n.S", 1)[0]
        for parameter in command.params:
            for option in parameter.opts:
                if option.startswith("-") and option != "--help":
                    assert f"{option}\\fR" in section, f"{words} {option}"


@pytest.mark.skipif(shutil.which("man") is None, reason="no man program here")
def test_man_reads_the_page_without_a_complaint() -> None:
    read = subprocess.run(
        ["man", "--warnings", "-l", str(ROOT / "docs/ferryman.1")], capture_output=True, text=True,
        env={**os.environ, "MANWIDTH": "80", "LC_ALL": "C.UTF-8"},
    )  # fmt: skip
    assert read.returncode == 0
    assert read.stderr == ""
    assert "ferryman migrate" in read.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("ferryman mig", ["migrate"]),
        ("ferryman host ch", ["check"]),
        ("ferryman migrate --det", ["--detach"]),
        ("ferryman migrate web --to al", ["albert", "alpha"]),
        ("ferryman migrate w", ["web"]),
        ("ferryman show ab", ["abcd1234"]),
    ],
)
def test_bash_completes(state: Path, words: str, expected: list[str]) -> None:
    answer = ferryman(
        state, COMP_WORDS=words, COMP_CWORD=str(len(words.split()) - 1), _FERRYMAN_COMPLETE="complete_bash"
    )
    assert answer.stdout.split() == expected, answer.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_a_script_that_asks_ferryman(state: Path, shell: str) -> None:
    script = ferryman(state, "completion", shell).stdout
    assert "_FERRYMAN_COMPLETE" in script
    if path := shutil.which(shell):
        assert subprocess.run([path, "-n"], input=script, text=True, capture_output=True).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("migrate", "--to", "beta", "--yes"), 3, "no guest is named"),
        (("migrate", "web", "--yes"), 2, "--to"),
        (("migrate", "web", "--all", "--from", "alpha", "--to", "beta", "--yes"), 3, "exclude each other"),
        (("migrate", "--all", "--to", "beta", "--yes"), 3, "--from HOST"),
        (("migrate", "--all", "--from", "nowhere", "--to", "beta", "--yes"), 3, "host nowhere"),
        (("migrate", "web", "--to", "beta", "--detach", "--dry-run"), 3, "--dry-run"),
        (("migrate", "web", "db", "--to", "beta"), 3, "nobody can be asked"),
        (("migrate", "web", "--to", "beta", "--yes", "--at", "soon"), 3, "'soon' is no moment"),
        (("migrate", "web", "--to", "beta", "--yes", "--at", "2020-01-01T00:00"), 3, "is past"),
        (("migrate", "web", "--to", "beta", "--yes", "--window", "Sat 02:00"), 3, "is not a window"),
        (
            ("migrate", "web", "--to", "beta", "--yes", "--at", "22:00", "--window", "02:00-04:00 UTC"),
            3,
            "leave --at or",
        ),
        (("migrate", "web", "--to", "beta", "--yes", "--give-up-at", "03:45"), 3, "add --cold"),
        (("tune", "abcd"), 3, "no limit is named"),
        (("tune", "ffff", "--bandwidth", "1M"), 3, "request ffff"),
        (("tune", "abcd", "--bandwidth", "much"), 3, "--bandwidth"),
    ],
)
def test_an_order_that_makes_no_sense_names_what_is_wrong(
    state: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    answer = ferryman(state, *arguments)
    assert (answer.returncode, words in answer.stderr) == (code, True), answer.stderr


def test_the_bare_name_and_a_bare_group_print_their_help(state: Path) -> None:
    for words in ((), ("host",)):
        bare = ferryman(state, *words)
        assert (bare.returncode, bare.stderr) == (2, "")
        assert bare.stdout.startswith(f"Usage: {' '.join(('ferryman', *words))} ")


def test_wrong_arguments_name_the_help_that_tells_more(state: Path) -> None:
    wrong = ferryman(state, "migrate", "web", "--too", "beta")
    assert wrong.returncode == 2
    assert "--too" in wrong.stderr
    assert wrong.stderr.endswith("remedy: ferryman migrate --help\n")


@pytest.mark.parametrize("uri", ["qemu+tcp://beta/system", "qemu:///system", "tls://beta"])
def test_a_peer_uri_over_which_nothing_is_encrypted_is_refused(state: Path, uri: str) -> None:
    refused = ferryman(state, "host", "add", "gamma", "qemu+ssh://root@gamma/system", "--peer-uri", uri)
    assert refused.returncode == 3
    assert "unencrypted" in refused.stderr
    assert "gamma" not in {host.name for host in open_records(state).hosts()}


def test_unknown_settings_name_those_that_there_are(state: Path, tmp_path: Path) -> None:
    (tmp_path / "ferryman.toml").write_text("time_out = 3\n")
    refused = ferryman(state, "hosts", FERRYMAN_SETTINGS=str(tmp_path / "ferryman.toml"))
    assert refused.returncode == 3
    assert "time_out" in refused.stderr
    assert "max_downtime" in refused.stderr


def test_closing_a_request_prints_it_as_json_when_that_is_asked_for(state: Path) -> None:
    records = open_records(state)
    records.enter("abcd1234", Phase.NEEDS_ATTENTION)
    records.engine.dispose()
    closed = ferryman(state, "recover", "--close", "abcd", "--json")
    assert closed.returncode == 0, closed.stderr
    assert json.loads(closed.stdout)["id"] == "abcd1234"


def test_one_that_waits_is_listed_with_when_it_begins(state: Path) -> None:
    records = open_records(state)
    records.enter("abcd1234", Phase.WAITING)
    begins = "Sat 2026-12-05 02:00 CET (window Sat 02:00-04:00 Europe/Berlin)"
    records.keep_facts("abcd1234", {"begins": begins})
    records.engine.dispose()
    assert "waiting for Sat 2026-12-05 02:00 CET " in ferryman(state, "history").stdout
    assert f"begins at {begins}" in ferryman(state, "show", "abcd").stdout
    assert json.loads(ferryman(state, "show", "abcd", "--json").stdout)["begins"] == begins


def test_the_plan_says_when_it_begins(capsys: pytest.CaptureFixture[str]) -> None:
    render.plan(live_plan(good_site(), Options()), begins="Sat 2026-12-05 02:00 CET")
    assert "  begins at Sat 2026-12-05 02:00 CET; both hosts are looked at again then\n" in capsys.readouterr().out


def test_serve_tells_events_with_fields_and_ends_when_it_is_told_to(tmp_path: Path) -> None:
    """There is nothing to do, and nothing listens."""
    server = subprocess.Popen(
        [sys.executable, "-m", "ferryman", "serve", "--json"], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "FERRYMAN_STATE_DIRECTORY": str(tmp_path)},
    )  # fmt: skip
    assert server.stdout is not None
    assert json.loads(server.stdout.readline()) == {"event": "serving", "slot": "slot0"}
    again = ferryman(tmp_path, "serve")
    assert (again.returncode, f"process {server.pid} serves" in again.stderr) == (3, True), again.stderr
    server.send_signal(signal.SIGTERM)
    told, _ = server.communicate(timeout=30)
    assert json.loads(told) == {"event": "ended", "left": ""}
    assert server.returncode == 0


def test_fields_with_spaces_are_quoted(capsys: pytest.CaptureFixture[str]) -> None:
    _as_line("end", request="abcd", status="failed", reason='it said "no"', remedy="")
    assert capsys.readouterr().out == 'end request=abcd status=failed reason="it said \\"no\\"" remedy=""\n'


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_the_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    text = (ROOT / "docs/guide/ferryman.service").read_text()
    (tmp_path / "ferryman.service").write_text(text.replace("/root/.local/bin/ferryman", sys.executable))
    verified = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / "ferryman.service")], capture_output=True, text=True
    )
    assert (verified.returncode, verified.stderr) == (0, "")
