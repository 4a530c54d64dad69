"""A pytest plugin: several pytests that were started alike share one run, each test taken by whoever is free first."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

# Those that wait longest, and those that bring up hosts of their own, come first: what comes last is short, and ends together.
FIRST = (
    "test_prepare.py",
    "test_versions.py",
    "test_hosts_fail.py",
    "test_matrix.py",
    "test_backup_matrix.py",
    "test_soak.py",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The directory that joins them."""
    parser.addoption(
        "--share", metavar="DIRECTORY", help="take only tests that no other pytest with this directory took"
    )
    parser.addoption(
        "--part", metavar="K/N", default="1/1", help="only the K-th of N parts, whose tests lie far from each other"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Those of the part, in the order in which they are taken."""
    part, _, parts = config.getoption("--part").partition("/")
    own = {item for item in items if int(_digest(_unit(item)), 16) % int(parts) == int(part) - 1}
    config.hook.pytest_deselected(items=[item for item in items if item not in own])
    items[:] = [item for item in items if item in own]
    names = list(FIRST)
    items.sort(key=lambda item: names.index(item.path.name) if item.path.name in names else len(names))


def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """As pytest's own, over what we can take. The next one is taken before one runs: pytest keeps what both need."""
    directory = session.config.getoption("--share")
    if not directory or session.config.option.collectonly:
        return None
    mine = _taken(session.items, Path(directory))
    item = next(mine, None)
    while item is not None:
        following = next(mine, None)
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.shouldfail or session.shouldstop:
            raise (
                session.Failed(session.shouldfail) if session.shouldfail else session.Interrupted(session.shouldstop)
            )
        item = following
    return True


def _taken(items: list[pytest.Item], directory: Path) -> Iterator[pytest.Item]:
    directory.mkdir(exist_ok=True)
    ours: set[str] = set()
    for item in items:
        unit = _unit(item)
        if unit not in ours:
            try:
                (directory / _digest(unit)).touch(exist_ok=False)
            except FileExistsError:
                continue
            ours.add(unit)
        yield item


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _unit(item: pytest.Item) -> str:
    """One test; or all of its file, where they share hosts other than the session's."""
    fixtures = set(getattr(item, "fixturenames", ()))
    return str(item.path) if fixtures & {"bare", "mixed"} else item.nodeid
