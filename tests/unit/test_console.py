"""A guest's console touched: what counts as an answer, which keys are typed, and whose console is left alone."""

from typing import Any

import libvirt
import pytest

from ferryman.drivers.libvirt import console
from ferryman.ports import Console


class Terminal:
    """A stream to a console: what it says when, and what it says to keys."""

    def __init__(self, *, at_once: bytes = b"", to_blank: bytes = b"", to_enter: bytes = b"") -> None:
        self.typed: list[bytes] = []
        self.closed = False
        self._waiting = [at_once] if at_once else []
        self._answers = {console._BLANK_AND_RUB_OUT: to_blank, console._ENTER: to_enter}

    def send(self, keys: bytes) -> int:
        self.typed.append(keys)
        if answer := self._answers[keys]:
            self._waiting.append(answer)
        return len(keys)

    def recv(self, _: int) -> Any:
        return self._waiting.pop(0) if self._waiting else -2

    def abort(self) -> None:
        self.closed = True


class Link:
    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal

    def newStream(self, flags: int) -> Terminal:  # noqa: N802
        assert flags == libvirt.VIR_STREAM_NONBLOCK
        return self.terminal


class Domain:
    def __init__(self, error: int = 0) -> None:
        self.error = error

    def openConsole(self, device: None, stream: Terminal, flags: int) -> None:  # noqa: N802
        assert not flags & libvirt.VIR_DOMAIN_CONSOLE_FORCE, "it would throw somebody out"
        if self.error:
            error = libvirt.libvirtError("no")
            error.err = (self.error, 0, "no", 0, "", "", "", 0, 0)
            raise error


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "STALE_FOR", 0.05)
    monkeypatch.setattr(console, "LISTENS_FOR", 0.1)
    monkeypatch.setattr(console, "_LOOK_EVERY", 0.01)


def seen(terminal: Terminal, *, starting: bool = False, error: int = 0) -> Console:
    found = console.console(Link(terminal), Domain(error), starting=starting)
    assert terminal.closed is not bool(error)
    return found


def test_an_echo_is_an_answer_and_a_line_that_somebody_left_is_not_sent_off() -> None:
    terminal = Terminal(to_blank=b" \b \b", to_enter=b"\r\nlogin: ")
    assert seen(terminal) is Console.ANSWERS
    assert terminal.typed == [b" \x7f"]


def test_enter_follows_where_nothing_is_echoed() -> None:
    terminal = Terminal(to_enter=b"\r\nlogin: ")
    assert seen(terminal) is Console.ANSWERS
    assert terminal.typed == [b" \x7f", b"\r"]


def test_what_was_written_before_and_not_read_is_no_answer() -> None:
    assert seen(Terminal(at_once=b"old words")) is Console.SILENT


def test_one_that_starts_answers_by_whatever_it_writes_and_no_key_disturbs_it() -> None:
    terminal = Terminal(at_once=b"Linux version")
    assert seen(terminal, starting=True) is Console.ANSWERS
    assert terminal.typed == []


def test_one_that_starts_and_says_nothing_gets_enter_alone() -> None:
    terminal = Terminal(to_blank=b"no boot loader counts down any more")
    assert seen(terminal, starting=True) is Console.SILENT
    assert terminal.typed == [b"\r"]


@pytest.mark.parametrize(
    ("error", "what"),
    [(libvirt.VIR_ERR_OPERATION_FAILED, Console.BUSY), (libvirt.VIR_ERR_CONFIG_UNSUPPORTED, Console.NONE)],
)
def test_one_that_somebody_has_open_is_left_alone_and_a_guest_may_have_none(error: int, what: Console) -> None:
    terminal = Terminal()
    assert seen(terminal, error=error) is what
    assert terminal.typed == []
