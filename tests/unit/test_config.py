"""Settings: a file, the environment over it, and mistakes that are named."""

from pathlib import Path

import pytest

from ferryman import config
from ferryman.errors import BadInput


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
