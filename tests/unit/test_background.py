"""A process that is started anew: it gets its order, answers one line, and belongs to no terminal."""

from pathlib import Path

import pytest

from ferryman.drivers import background


def test_the_order_arrives_and_the_first_line_comes_back(tmp_path: Path) -> None:
    assert background.start("json.tool", '{"a": 1}', tmp_path / "log") == "{\n"
    assert background.last_line(tmp_path / "log") == ""


def test_one_that_cannot_begin_says_why_in_the_log(tmp_path: Path) -> None:
    assert background.start("ferryman.no_such_part", "an order" * 50_000, tmp_path / "log") == ""
    assert "no_such_part" in background.last_line(tmp_path / "log")


def test_it_has_a_session_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tells.py").write_text("import os; print(os.getsid(0) == os.getpid())")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert background.start("tells", "", tmp_path / "log") == "True\n"
