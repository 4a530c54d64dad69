"""The project's own sources, each parsed once for all tests that hold rules against them."""

import ast
from functools import cache
from pathlib import Path


@cache
def parsed(path: Path) -> ast.Module:
    """Not to be changed: others get the same tree."""
    return ast.parse(path.read_text())
