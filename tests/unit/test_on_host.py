"""What runs at a host, run here on files of the test's own: all or nothing, byte for byte; and when certificates end."""

import subprocess
import time
from pathlib import Path

import pytest

from ferryman.drivers.libvirt import host_check
from ferryman.drivers.libvirt import visit as visits
from ferryman.drivers.preparation import FUNCTIONS
from ferryman.model.host import Answer, Host

HERE = Host("here", "qemu:///system")
CONFIGURATION = """# words about a list
#list = [ "never" ]
list = [
  "one",
  "two"
]
key = "old"   # the one in force
other_key = 1
key = "shadowed"
"""


def run(base: Path, calls: str, text: str = "") -> list[list[str]]:
    script = f"base={base} full=no\n{FUNCTIONS}\n{calls}\n"
    result = subprocess.run(["sh", "-c", script], input=text, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return [line.split("\t") for line in result.stdout.splitlines()]


def tree(directory: Path) -> dict[str, tuple[int, int, str]]:
    return {
        str(path): (path.stat().st_mode, 0 if path.is_dir() else path.stat().st_mtime_ns, "" if path.is_dir() else path.read_text())
        for path in sorted(directory.rglob("*"))
    }  # fmt: skip


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    """A machine's files."""
    directory = tmp_path / "etc"
    directory.mkdir()
    (directory / "a.conf").write_text(CONFIGURATION)
    (directory / "a.conf").chmod(0o600)
    (directory / "cert.pem").write_text("old certificate")
    return directory


def acts(etc: Path, last: str) -> str:
    return f"""open_directory one
take_files
acts() {{
    place new.pem {etc}/cert.pem 644 -
    place new.pem {etc}/pki/private/key.pem 600 -
    access {etc}/cert.pem 640 -
    setting {etc}/a.conf key ' = ' '"new"'
    setting {etc}/a.conf list ' = ' '[ "one", "three" ]'
    setting {etc}/a.conf fresh = '"\\back"'
    {last}
}}
carry_out"""


NEW = "new.pem\tbmV3\n"  # "new"


def test_everything_is_done_and_can_be_put_back(tmp_path: Path, etc: Path) -> None:
    before = tree(etc)
    assert ["result", "done"] in run(tmp_path / "kept", acts(etc, ":"), NEW)
    assert (etc / "pki/private/key.pem").read_text() == (etc / "cert.pem").read_text() == "new"
    assert (etc / "pki/private/key.pem").stat().st_mode & 0o777 == 0o600
    assert (etc / "pki/private").stat().st_mode & 0o777 == 0o700
    assert (etc / "cert.pem").stat().st_mode & 0o777 == 0o640
    assert (etc / "a.conf").stat().st_mode & 0o777 == 0o600
    assert (etc / "a.conf").read_text() == (
        '# words about a list\n#list = [ "never" ]\nlist = [ "one", "three" ]\nkey = "new"\nother_key = 1\nfresh="\\back"\n'
    )
    assert not list(etc.rglob("*.ferryman"))
    assert not (tmp_path / "kept/one/new").exists()
    (etc / "a.conf").write_text("somebody's own words since\n")
    assert ["result", "undone", ""] in run(tmp_path / "kept", "open_directory one\nput_back reverted")
    assert tree(etc) == before
    assert (tmp_path / f"kept/one/before-revert{etc}/a.conf").read_text() == "somebody's own words since\n"
    assert (tmp_path / "kept/one/state").read_text().strip() == "reverted"


def test_what_is_staged_is_for_root_alone(tmp_path: Path) -> None:
    run(tmp_path / "kept", "open_directory one\ntake_files\nmake_request qemu a.example", NEW)
    staged = tmp_path / "kept/one/new"
    for path in (tmp_path / "kept", staged.parent, staged, *staged.iterdir()):
        assert path.stat().st_mode & 0o077 == 0, path
    assert {path.name for path in staged.iterdir()} == {"new.pem", "qemu.key", "qemu.csr"}


@pytest.mark.parametrize("last", [":", "false"], ids=["done", "put back"])
def test_a_configuration_that_is_a_link_is_changed_where_it_lies(tmp_path: Path, etc: Path, last: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    real = (etc / "a.conf").rename(tmp_path / "elsewhere/a.conf")
    (etc / "a.conf").symlink_to(real)
    calls = f"acts() {{ access {etc}/a.conf 640 -; setting {etc}/a.conf key ' = ' '\"new\"'; {last}; }}"
    run(tmp_path / "kept", f"open_directory one\ntake_files\n{calls}\ncarry_out")
    new, mode = (CONFIGURATION.replace('key = "old"   # the one in force\n', 'key = "new"\n').replace('key = "shadowed"\n', ""), 0o640) if last == ":" else (CONFIGURATION, 0o600)  # fmt: skip
    assert (etc / "a.conf").readlink() == real
    assert (real.read_text(), real.stat().st_mode & 0o777) == (new, mode)
    run(tmp_path / "kept", "open_directory one\nput_back reverted")
    assert (real.read_text(), real.stat().st_mode & 0o777) == (CONFIGURATION, 0o600)


def test_the_failure_of_one_act_undoes_all(tmp_path: Path, etc: Path) -> None:
    before = tree(etc)
    told = run(tmp_path / "kept", acts(etc, "echo 'no room'; false"), NEW)
    assert ["result", "undone", "no room"] in told
    assert tree(etc) == before
    assert (tmp_path / "kept/one/state").read_text().strip() == "undone"


@pytest.mark.parametrize("moment", range(1, 12))
def test_a_machine_that_dies_in_between_is_put_back_afterwards(tmp_path: Path, etc: Path, moment: int) -> None:
    """Killed at the n-th program it starts to change something with: nothing of the script runs after that."""
    before = tree(etc)
    dying = f"""n=0
die() {{ n=$((n + 1)); [ $n -ne {moment} ] || kill -9 $$; }}
cp() {{ die; command cp "$@"; }}
mv() {{ die; command mv "$@"; }}
mkdir() {{ die; command mkdir "$@"; }}
chmod() {{ die; command chmod "$@"; }}
"""
    whole = acts(etc, ":").replace("carry_out", f"{dying}\n(set -e; acts)\n")
    script = f"base={tmp_path / 'kept'} full=no\n{FUNCTIONS}\n{whole.replace('acts() {', 'echo begun >$dir/state; acts() {')}\n"
    died = subprocess.run(["sh", "-c", script], input=NEW, capture_output=True, text=True)
    assert died.returncode == -9
    assert (tmp_path / "kept/one/state").read_text().strip() == "begun"
    assert ["result", "undone", ""] in run(tmp_path / "kept", "open_directory one\nput_back undone")
    assert tree(etc) == before


def test_two_at_once_are_not_let_in(tmp_path: Path) -> None:
    first = subprocess.Popen(
        ["sh", "-c", f"base={tmp_path} full=no\n{FUNCTIONS}\nopen_directory one\necho in\nread -r word"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # fmt: skip
    assert first.stdout is not None
    assert first.stdout.readline() == "in\n"
    assert run(tmp_path, "open_directory two")[0][:2] == ["result", "refused"]
    first.communicate("go\n")
    assert run(tmp_path, "open_directory two") == []


def test_a_key_never_tells_more_than_its_public_half(tmp_path: Path) -> None:
    key = tmp_path / "some-key.pem"
    subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
    told = run(tmp_path / "kept", f"known {key} {tmp_path}/nowhere.pem")
    assert [line[0] for line in told] == ["key"]
    secret = key.read_text().splitlines()[1]
    assert not any(secret in word for line in told for word in line)


@pytest.mark.parametrize(
    ("days", "answer", "words"),
    [(0, Answer.GOOD, "the first ends on"), (71, Answer.WARNING, "in 29 days"), (101, Answer.MISSING, "has ended")],
)
def test_when_a_certificate_ends_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int, answer: Answer, words: str
) -> None:
    certificate = tmp_path / "cert.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=a", "-days", "100", "-keyout",
                    str(tmp_path / "key.pem"), "-out", str(certificate)], check=True, capture_output=True)  # fmt: skip
    for module in (visits, host_check):
        monkeypatch.setattr(module, "CERTIFICATES", {"qemu": (str(certificate), str(tmp_path / "key.pem"))})
    seen = visits.visit(HERE, dates=True)
    assert abs(seen.ends[str(certificate)] - (time.time() + 100 * 86400)) < 10
    line = host_check._dates(HERE, "qemu", seen, time.time() + days * 86400)
    assert (line.answer, words in line.detail) == (answer, True), line


def test_without_openssl_dates_are_not_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for program in ("sh", "date", "basename", "dirname", "sed", "tr", "stat", "timeout", "tail", "head"):
        (tmp_path / program).symlink_to(f"/usr/bin/{program}")
    monkeypatch.setenv("PATH", str(tmp_path))
    seen = visits.visit(HERE, dates=True)
    assert not seen.dated
    line = host_check._dates(HERE, "qemu", seen, time.time())
    assert line.answer is Answer.NOT_CHECKED
    assert "openssl" in line.detail


def test_what_disk_copies_need_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`./dev setup` installs all of it here; without the programs it is named, with what to type."""
    assert next(host_check._copies(HERE, visits.visit(HERE, dates=True))).answer is Answer.GOOD
    for program in ("sh", "date", "basename", "dirname", "sed", "tr", "stat", "timeout", "tail", "head"):
        (tmp_path / program).symlink_to(f"/usr/bin/{program}")
    monkeypatch.setenv("PATH", str(tmp_path))
    line = next(host_check._copies(HERE, visits.visit(HERE, dates=True)))
    assert line.answer is Answer.OPTIONAL
    assert "apt install qemu-utils" in line.remedy
