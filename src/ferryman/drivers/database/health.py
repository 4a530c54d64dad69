"""Whether the databases of a state directory are whole: looked at without any of ferryman's own tables."""

import sqlite3
from contextlib import closing
from pathlib import Path


def broken(path: Path) -> str:
    """What SQLite says is wrong with a file; empty when it is whole or not there."""
    if not path.exists():
        return ""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as connection:
            answer = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.Error as error:
        return str(error)
    return "" if answer == "ok" else answer
