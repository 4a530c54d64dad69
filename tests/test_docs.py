"""The documentation is held against the code: commands, options, settings, findings, exit codes, names on the main path."""

import ast
import re
from pathlib import Path
from typing import Any

import typer

from ferryman.config import Settings
from ferryman.surfaces.cli import program

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"


def commands() -> dict[str, Any]:
    """Every command by the words that call it."""
    found: dict[str, Any] = {}

    def walk(command: Any, words: str) -> None:
        children = getattr(command, "commands", None)
        if children:
            for name, child in children.items():
                walk(child, f"{words} {name}".strip())
        else:
            found[words] = command

    walk(typer.main.get_command(program), "")
    return found


def finding_codes() -> set[str]:
    """Every first argument of blocker(), warning() and note() in the source."""
    return {
        node.args[0].value
        for path in (ROOT / "src/ferryman").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("blocker", "warning", "note")
        if node.args and isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str)
    }


def test_every_command_and_option_is_documented() -> None:
    text = (DOCS / "commands.md").read_text()
    for words, command in commands().items():
        head = re.search(rf"^## `ferryman {words}[ `]", text, flags=re.MULTILINE)
        assert head, words
        section = text[head.end() :].split("\n## ", 1)[0]
        for parameter in command.params:
            for option in parameter.opts:
                if option.startswith("--") and option != "--help":
                    assert f"`{option}" in section, f"{words} {option}"


def test_the_documentation_names_no_command_that_is_not_there() -> None:
    known = set(commands())
    for path in [ROOT / "README.md", *DOCS.rglob("*.md")]:
        if path.parent.name == "decisions":
            continue
        blocks = "\n".join(re.findall(r"^```.*?^```", path.read_text(), flags=re.MULTILINE | re.DOTALL))
        for call in re.findall(r"^(?:\$ )?ferryman ([a-z]+(?: [a-z]+)?)", blocks, flags=re.MULTILINE):
            assert call in known or call.split()[0] in known, f"{path.name}: ferryman {call}"


def test_every_setting_is_documented() -> None:
    text = (DOCS / "settings.md").read_text()
    assert set(re.findall(r"^\| `([a-z_]+)`", text, flags=re.MULTILINE)) == set(Settings.__struct_fields__)


def test_every_finding_is_documented_and_none_that_is_not_there() -> None:
    text = (DOCS / "findings.md").read_text()
    assert set(re.findall(r"^\| `([a-z-]+)`", text, flags=re.MULTILINE)) == finding_codes()


def test_names_on_the_main_path_exist() -> None:
    text = (DOCS / "main-path.md").read_text()
    files = re.findall(r"`((?:src|lab|bench|tests)/[\w/.-]+)`", text)
    assert len(files) > 10
    for name in files:
        assert (ROOT / name).exists(), name
    code = "\n".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    for name in re.findall(r"`(\w+)\(\)`", text):
        assert re.search(rf"def {name}\b", code), name


def test_links_between_documents_lead_somewhere() -> None:
    for path in [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_the_project_speaks_of_the_project_alone() -> None:
    for path in [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]:
        assert not re.search(r"/work/|/root/|pypi\.org|deb\.debian", path.read_text()), path.name
