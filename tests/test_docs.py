"""The documentation is held against the code: commands, options, settings, findings, exit codes, names on the main path."""

import ast
import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from ferryman.config import Settings
from ferryman.surfaces.cli import program
from tests.sources import parsed

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"


@cache
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
        for node in ast.walk(parsed(path))
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


OPERATORS = [ROOT / "README.md", ROOT / "README.zh-CN.md", *sorted((DOCS / "guide").glob("*.md"))]
DOCUMENTS = [*OPERATORS, *sorted(DOCS.glob("*.md"))]
# Options of other programs that the documents and the remedies name.
FOREIGN = {
    "--live", "--config", "--remove", "--metadata", "--abort", "--info", "--nodeset", "--wait", "--keep-nvram",  # virsh
    "--dig-holes", "--ro", "--target", "--daemon", "--listen", "--system-site-packages", "--force", "--name",  # fallocate, guestfish, libvirtd, pipx, ./dev
}  # fmt: skip


def fences(path: Path) -> list[str]:
    """The contents of the fenced blocks, indented ones too."""
    return [found[2] for found in re.finditer(r"^( *)```\w*\n(.*?)^\1```", path.read_text(), re.MULTILINE | re.DOTALL)]


def command_lines(path: Path) -> list[list[str]]:
    """What is typed to ferryman in fenced blocks, as a shell would split it."""
    found = []
    for line in "\n".join(fences(path)).splitlines():
        if re.match(r"\s*(\$ )?ferryman ", line):
            words = shlex.split(line.strip().removeprefix("$ "), comments=True)
            redirected = next((number for number, word in enumerate(words) if word[0] in "<>|"), len(words))
            found.append(words[1:redirected])
    return found


def spoken_to(words: list[str]) -> tuple[str, list[str]]:
    """(the words that call the command, the rest). Raises KeyError when there is no such command."""
    for count in (2, 1):
        if " ".join(words[:count]) in commands():
            return " ".join(words[:count]), words[count:]
    raise KeyError(" ".join(words[:2]))


def options_of(name: str) -> set[str]:
    """A command's own options."""
    return {option for parameter in commands()[name].params for option in parameter.opts} | {"--help"}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_line_in_the_documents_is_one_that_the_program_takes(path: Path) -> None:
    """Parsed by the program itself: commands, options, their values, and how many arguments there are."""
    for words in command_lines(path):
        name, rest = spoken_to(words)
        commands()[name].make_context(name, rest)


def of_dev() -> set[str]:
    """The options of `./dev` and of what it calls."""
    called = [ROOT / "dev", *(ROOT / "lab").glob("*.py"), *(ROOT / "bench").glob("*.py"), ROOT / "tests/lab/soak.py"]
    return {option for path in called for option in re.findall(r"(?<![\w-])--[a-z-]+", path.read_text())}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_and_option_named_in_a_sentence_exists(path: Path) -> None:
    outside = re.sub(r"^( *)```.*?^\1```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    every = FOREIGN | of_dev() | {option for name in commands() for option in options_of(name)}
    groups = {name.split()[0] for name in commands()}
    for span in re.findall(r"`([^`]+)`", re.sub(r"\s+", " ", outside)):
        words = span.split()
        if words[0] == "ferryman" and len(words) > 1 and words[1:] not in [[group] for group in groups]:
            name, rest = spoken_to(words[1:])
            assert {word for word in rest if word.startswith("--")} <= options_of(name), span
        assert set(re.findall(r"(?<![\w-])--[a-z-]+", span)) <= every, span


def test_the_guide_has_command_lines_at_all() -> None:
    assert sum(len(command_lines(path)) for path in OPERATORS) > 40


def sentences() -> list[tuple[str, str]]:
    """(file, text) of every string in the source that is no docstring; what is filled in is an X."""
    found = []
    for path in (ROOT / "src/ferryman").rglob("*.py"):
        tree = parsed(path)
        docstrings = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and isinstance(node.body[0], ast.Expr)
        }
        inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else "X" for part in node.values)
                found.append((path.name, "".join(map(str, parts))))
            elif (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and not {id(node)} & (docstrings | inside)
            ):
                found.append((path.name, node.value))
    return found


def test_every_remedy_names_commands_and_options_that_exist() -> None:
    every = FOREIGN | {option for name in commands() for option in options_of(name)}
    first_words = {name.split()[0] for name in commands()}
    groups = {name.split()[0] for name in commands() if " " in name}
    checked = 0
    for file, text in sentences():
        for call in re.findall(r"\bferryman ([^;,:()\n]+)", text):
            words = [word for word in call.split() if word != "…"]
            if words and (words[0] in groups or (words[0] in first_words and file != "machine.py")):
                name, rest = spoken_to(words)
                assert {word for word in rest if re.match("--[a-z]", word)} <= options_of(name), f"{file}: {text}"
                checked += 1
        if " " in text and "\n" not in text:  # a sentence, no program's argument and no script
            assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) <= every, f"{file}: {text}"
    assert checked > 40


# Ends after which there is nothing to do.
NO_REMEDY = {"cancelled before it began"}


def test_every_error_names_a_remedy() -> None:
    names = {"Refused", "BadInput", "NotFound", "Aborted", "NeedsAttention", "DriverError", "Unreachable", "Timeout",
             "AlreadyRunning", "Insecure", "FerrymanError", "RecordsUnusable"}  # fmt: skip
    checked = 0
    for path in (ROOT / "src/ferryman").rglob("*.py"):
        for node in ast.walk(parsed(path)):
            if not isinstance(node, ast.Call):
                continue
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called not in names or any(isinstance(argument, ast.Starred) for argument in node.args):
                continue
            if isinstance(node.args[1], ast.Constant) and node.args[1].value in NO_REMEDY:
                continue
            assert len(node.args) == 3, f"{path.name}:{node.lineno} names no remedy"
            assert not (isinstance(node.args[2], ast.Constant) and not node.args[2].value), f"{path.name}:{node.lineno}"
            checked += 1
    assert checked > 80


def test_no_error_sends_anybody_to_a_document_that_is_not_installed() -> None:
    assert [(file, text) for file, text in sentences() if re.search(r"\bdocs/|\.md\b", text)] == []


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
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", path.read_text()):
            there = path.parent / target if target else path
            assert there.exists(), f"{path.name}: {target}"
            if anchor:
                assert anchor in anchors(there), f"{path.name}: {target}#{anchor}"


def anchors(path: Path) -> set[str]:
    """What headings are called in links."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_both_readmes_say_the_same() -> None:
    """As far as a test can see: headings, blocks and what is typed in them, links, rows of tables, points of lists."""
    english, chinese = (path.read_text() for path in OPERATORS[:2])

    def commands_in(path: Path) -> list[str]:
        return [re.sub(r"\s*#.*", "", line) for line in "\n".join(fences(path)).splitlines()]

    def shape(text: str) -> list[str]:
        """The beginnings of lines that are headings, points or rows."""
        return re.findall(r"^(#+ |- \*\*|\|)", text, flags=re.MULTILINE)

    def targets(text: str) -> list[str]:
        return [target for target in re.findall(r"\]\(([^)]+)\)", text) if not target.startswith("README")]

    assert shape(english) == shape(chinese)
    assert len(fences(OPERATORS[0])) == len(fences(OPERATORS[1]))
    assert commands_in(OPERATORS[0]) == commands_in(OPERATORS[1])
    assert targets(english) == targets(chinese)
    assert re.findall(r"`[^`\n]+`", english) == re.findall(r"`[^`\n]+`", chinese)
    assert "(README.zh-CN.md)" in english.splitlines()[0]
    assert "(README.md)" in chinese.splitlines()[0]


def test_decisions_are_numbered_and_name_their_status_and_cost() -> None:
    records = sorted((DOCS / "decisions").glob("*.md"))
    assert [path.name[:4] for path in records] == [f"{number:04}" for number in range(1, len(records) + 1)]
    for path in records:
        text = path.read_text()
        assert text.startswith(f"# {int(path.name[:4])}. "), path.name
        assert re.search(r"^Status: \w+, \d{4}-\d{2}\.", text, flags=re.MULTILINE), path.name
        assert "**Cost.**" in text, path.name


@pytest.mark.parametrize("folder", ["app", "assess", "plan", "prepare", "execute", "verify", "report", "drivers"])
def test_the_architecture_names_every_file_of_a_folder(folder: str) -> None:
    tree = re.search(rf"^  {folder}/ .*\n(?:   .*\n)*", (ROOT / "ARCHITECTURE.md").read_text(), flags=re.MULTILINE)
    assert tree, folder
    files = {path.stem for path in (ROOT / "src/ferryman" / folder).glob("*.py")} - {"__init__"}
    assert files <= set(re.findall(r"\w+", tree[0])), folder


def test_the_project_speaks_of_the_project_alone() -> None:
    for path in [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]:
        assert not re.search(r"/work/|/root/|pypi\.org|deb\.debian", path.read_text()), path.name
