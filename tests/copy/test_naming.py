"""What an image is called until it is proved, and the moment in which it gets its name."""

import errno
import os
import stat
import threading
from pathlib import Path

import pytest

import tests.copy.conftest  # noqa: F401
from ferryman_copy import journal
from ferryman_copy.destination import Destination, Wanted
from ferryman_copy.journal import Journal
from ferryman_copy.trouble import Trouble
from tests.copy.pair import attempt

MIB = 1 << 20
ENDS_AS_IT_IS_NAMED = """
import os
really = os.link
def link(*names):
    really(*names)
    os._exit(9)
os.link = link
"""


@pytest.fixture
def named(tmp_path: Path) -> Path:
    """A copy whose endpoint ended just after the image got its name, without a word; its journal is there."""
    (tmp_path / "source").write_bytes(os.urandom(2 * MIB))
    told = attempt(
        tmp_path / "source", tmp_path / "target", tmp_path / "journals", changed=ENDS_AS_IT_IS_NAMED, keep=False
    )
    assert told[1]["event"] == "gone", told
    assert (tmp_path / "target").exists()
    return tmp_path / "target"


def test_a_copy_that_ended_as_it_was_named_is_complete(tmp_path: Path, named: Path) -> None:
    with open(named, "r+b") as file:  # a guest runs on it by now
        file.write(b"new data")
    used = named.read_bytes()
    told = attempt(tmp_path / "source", named, tmp_path / "journals", keep=False)
    assert told[1]["event"] == "finished"
    assert named.read_bytes() == used
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".partial")]
    assert os.stat(named).st_nlink == 1


def test_nothing_is_written_into_an_image_that_has_its_name_when_the_source_changed(
    tmp_path: Path, named: Path
) -> None:
    (tmp_path / "source").write_bytes(os.urandom(2 * MIB))
    before = named.read_bytes()
    told = attempt(tmp_path / "source", named, tmp_path / "journals", keep=False)
    assert (told[1]["event"], told[1]["kind"]) == ("error", "exists")
    assert named.read_bytes() == before


def test_an_endpoint_that_ended_just_before_that_is_taken_up(tmp_path: Path) -> None:
    source, target, journals = tmp_path / "source", tmp_path / "target", tmp_path / "journals"
    source.write_bytes(os.urandom(2 * MIB))
    before = ENDS_AS_IT_IS_NAMED.replace("    really(*names)\n", "")
    assert attempt(source, target, journals, changed=before)[1]["event"] == "gone"
    assert not target.exists()
    assert attempt(source, target, journals)[1]["event"] == "finished"
    assert target.read_bytes() == source.read_bytes()


def wanted(location: Path, **more: object) -> Wanted:
    """A small copy to there."""
    return Wanted("named", str(location), "raw", MIB, "sign", **more)  # type: ignore[arg-type]


def test_where_there_are_no_links_a_name_is_taken_from_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else, who makes no file where one is, tries at the very last moment."""
    beaten: list[int | None] = []
    really = os.rename

    def refused(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    def rename(one: str, other: str) -> None:
        try:
            os.close(os.open(other, os.O_CREAT | os.O_EXCL))
        except OSError as error:
            beaten.append(error.errno)
        really(one, other)

    monkeypatch.setattr(os, "link", refused)
    monkeypatch.setattr(os, "rename", rename)
    made = Destination(wanted(tmp_path / "target"), str(tmp_path / "journals"))
    made.publish({}, keep=True)
    made.close()
    assert beaten == [errno.EEXIST]
    assert (tmp_path / "target").stat().st_size == MIB
    late = Destination(wanted(tmp_path / "another"), str(tmp_path / "elsewhere"))
    (tmp_path / "another").write_text("somebody else's")
    with pytest.raises(Trouble, match="something appeared there"):
        late.publish({}, keep=True)
    late.close()
    assert (tmp_path / "another").read_text() == "somebody else's"


def test_a_name_as_long_as_names_may_be_is_no_hindrance_and_a_longer_one_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(os.urandom(MIB))
    target = tmp_path / ("ä" * 127 + "x")
    assert attempt(tmp_path / "source", target, tmp_path / "journals")[1]["event"] == "finished"
    assert target.read_bytes() == (tmp_path / "source").read_bytes()
    told = attempt(tmp_path / "source", tmp_path / ("x" * 256), tmp_path / "others")
    assert told[1]["event"] == "error"
    assert "name too long" in told[1]["why"]


def test_nobody_can_tell_the_name_beforehand(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / ".target.named.partial").symlink_to("victim")
    names = set()
    for number in range(2):
        made = Destination(wanted(tmp_path / "target"), str(tmp_path / f"journals{number}"))
        names.add(made.path)
        made.close()
        assert stat.S_ISREG(os.lstat(made.path).st_mode)
    assert len(names) == 2
    assert (tmp_path / "victim").read_text() == "precious"


@pytest.mark.parametrize("more", [{"size": 2 * MIB}, {"preallocation": "falloc"}, {"kind": "qcow2"}])
def test_an_image_of_another_shape_is_not_gone_on_with(tmp_path: Path, more: dict[str, object]) -> None:
    first = Destination(wanted(tmp_path / "target"), str(tmp_path / "journals"))
    first.close()
    again = Destination(wanted(tmp_path / "target"), str(tmp_path / "journals"))
    again.close()
    assert again.resumed
    facts = {**wanted(tmp_path / "target").__dict__, **more}
    other = Destination(Wanted(**facts), str(tmp_path / "journals"))
    other.close()
    assert not other.resumed
    assert [name for name in os.listdir(tmp_path) if name.endswith(".partial")] == [os.path.basename(other.path)]


def test_a_lock_on_a_journal_that_was_removed_is_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Journal(str(tmp_path), "one")
    second: list[Journal] = []
    waiting = threading.Thread(target=lambda: second.append(Journal(str(tmp_path), "one")))
    waiting.start()
    threading.Event().wait(0.2)
    first.remove()
    waiting.join(5)
    monkeypatch.setattr(journal, "LOCK_WITHIN", 0.1)
    with pytest.raises(Trouble, match="another endpoint carries"):
        Journal(str(tmp_path), "one")
    second[0].remove()
