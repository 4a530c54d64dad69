"""Settings: a file, the environment over it, and mistakes that are named."""

from pathlib import Path

import pytest

from ferryman import config
from ferryman.errors import BadInput
from ferryman.model.hook import Event


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in config.Settings.__struct_fields__:
        monkeypatch.delenv(f"FERRYMAN_{name.upper()}", raising=False)
    path = tmp_path / "ferryman.toml"
    monkeypatch.setenv("FERRYMAN_SETTINGS", str(path))
    return path


def test_without_a_file_all_is_default(file: Path) -> None:
    assert config.load() == config.Settings()
    assert config.load().timeout == 1800


def test_the_environment_wins_over_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("timeout = 60\nbandwidth = 1000\n")
    monkeypatch.setenv("FERRYMAN_TIMEOUT", "90")
    settings = config.load()
    assert (settings.timeout, settings.bandwidth) == (90, 1000)


def test_the_state_directory_is_the_one_that_was_set(file: Path, tmp_path: Path) -> None:
    file.write_text(f"state_directory = '{tmp_path}/state'\n")
    assert config.load().directory == tmp_path / "state"


@pytest.mark.parametrize(
    ("text", "word"),
    [("timeout = 'soon'", "timeout"), ("time_out = 3", "time_out"), ("timeout =", "ferryman.toml")],
)
def test_a_mistake_names_file_and_field(file: Path, text: str, word: str) -> None:
    file.write_text(text)
    with pytest.raises(BadInput) as raised:
        config.load()
    assert word in str(raised.value)
    assert str(file) in raised.value.what
    assert raised.value.remedy


HOOK = """
hook_secret = "s"
[[hooks]]
name = "chat"
on = ["before-stop", "failure"]
webhook = "https://chat.example.net/ferryman"
must_answer = true
[[hooks]]
name = "drain"
on = ["before-stop"]
command = ["/usr/local/bin/drain", "--now"]
time_limit = 5
"""


def test_hooks_are_read_and_bear_no_secret(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(HOOK)
    settings = config.load()
    chat, drain = settings.hooks_in_force
    assert chat.on == (Event.BEFORE_STOP, Event.FAILURE)
    assert (chat.must_answer, chat.tries, drain.time_limit) == (True, 3, 5)
    assert drain.command == ("/usr/local/bin/drain", "--now")
    assert settings.secrets == {"chat": "s"}
    assert settings.secret_in_file
    assert "'s'" not in repr(settings.hooks_in_force)
    monkeypatch.setenv("FERRYMAN_HOOK_SECRET", "from the environment")
    assert config.load().secrets == {"chat": "from the environment"}
    assert not config.load().secret_in_file
    file.write_text(HOOK.replace("must_answer", 'secret = "its own"\nmust_answer'))
    assert config.load().secrets == {"chat": "its own"}


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("https://", "http://", "insecure = true"),
        ('hook_secret = "s"', "", "signs"),
        ("https://chat.example.net/ferryman", "chat", "URL"),
        ('"failure"', '"success"', "on"),
        ('["before-stop", "failure"]', "[]", "no event"),
        ('"drain"', '"chat"', "same name"),
        ('"drain"', '"dr ain"', "letters"),
        ("command", "comand", "comand"),
        ("must_answer", 'command = ["true"]\nmust_answer', "one of them"),
        ("time_limit = 5", "time_limit = 0", "time_limit"),
        ("time_limit = 5", "tries = 99", "tries"),
    ],
)
def test_a_hook_that_cannot_be_used_is_refused_with_the_reason(file: Path, old: str, new: str, word: str) -> None:
    file.write_text(HOOK.replace(old, new))
    with pytest.raises(BadInput) as raised:
        config.load()
    assert word in str(raised.value)
    assert raised.value.remedy
