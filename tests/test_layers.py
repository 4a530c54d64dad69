"""The house's rules, held against the code: who may import whom, which library lives where, no cycles, no giant files."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sources import parsed

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src/ferryman"

# A layer may import itself and what is listed. "top" are app, __main__ and config.
MAY_IMPORT = {
    "model": set(),
    "errors": set(),
    "plain": set(),
    "assess": {"model", "plan"},  # which volumes are planned, and who leads the handshake, decide what is assessed
    "plan": {"model"},
    "prepare": {"model"},
    "verify": {"model"},
    "report": {"model"},
    "ports": {"model", "errors"},
    "execute": {"model", "errors", "plain", "ports", "assess", "plan", "verify", "report"},
    "drivers": {"model", "errors", "plain", "ports"},
    "config": {"model", "errors"},
    "app": {"model", "errors", "plain", "ports", "assess", "plan", "prepare", "report", "execute", "drivers", "config"},
    "surfaces": {"model", "errors", "plain", "report", "app"},
    "__main__": {"surfaces"},
    "__init__": set(),
}

LIBRARIES = {
    "dbos": {"execute/runtime.py"},
    "libvirt": {"drivers/libvirt/"},
    "sqlalchemy": {"drivers/database/"},
    "cryptography": {"drivers/certificates.py"},
    "subprocess": {"drivers/"},
    "typer": {"surfaces/cli/"},
    "rich": {"surfaces/cli/"},
    "msgspec": {"plain.py", "config.py"},
    "socket": {"drivers/"},
}


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(SOURCE.rglob("*.py")):
        yield str(path.relative_to(SOURCE)), parsed(path)


def imports(tree: ast.Module) -> Iterator[str]:
    """Every imported module, of lazy imports too; those for type checking only do not run and do not count."""
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            for alias in node.names:
                yield f"{node.module}.{alias.name}"


def layer(name: str) -> str:
    return name.split("/")[0].removesuffix(".py")


def test_each_layer_imports_only_what_it_may() -> None:
    wrong = []
    for name, tree in modules():
        here = layer(name)
        for imported in imports(tree):
            parts = imported.split(".")
            if (
                parts[0] == "ferryman"
                and len(parts) > 1
                and (SOURCE / parts[1]).exists() | (SOURCE / f"{parts[1]}.py").exists()
            ):
                there = parts[1]
                if there != here and there not in MAY_IMPORT[here]:
                    wrong.append(f"{name} imports {imported}")
    assert not wrong


def test_each_library_lives_where_it_should() -> None:
    wrong = [
        f"{name} imports {imported}"
        for name, tree in modules()
        for imported in imports(tree)
        if (homes := LIBRARIES.get(imported.split(".")[0])) and not any(name.startswith(home) for home in homes)
    ]
    assert not wrong


@pytest.mark.parametrize("outsider", ["lab"])
def test_the_witness_shares_no_code_with_the_product(outsider: str) -> None:
    for path in (ROOT / outsider).rglob("*.py"):
        assert not [name for name in imports(parsed(path)) if name.split(".")[0] == "ferryman"], path
    assert not [
        name for name, tree in modules() for one in imports(tree) if one.split(".")[0] in ("lab", "bench", "tests")
    ]


def test_the_copy_engine_needs_nothing_but_what_every_host_has() -> None:
    allowed = {*sys.stdlib_module_names, "nbd", "zstandard", "ferryman_copy"}
    for path in (ROOT / "src/ferryman_copy").glob("*.py"):
        assert {name.split(".")[0] for name in imports(parsed(path))} <= allowed, path
    assert not [name for name, tree in modules() for one in imports(tree) if one.split(".")[0] == "ferryman_copy"]


def test_there_are_no_cycles() -> None:
    graph = {}
    names = {name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name, _ in modules()}
    for name, tree in modules():
        module = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        wanted = {one.removeprefix("ferryman.") for one in imports(tree) if one.startswith("ferryman.")} & names
        # "from package import module" is an import of the module, not of what the package itself imports.
        graph[module] = {one for one in wanted if not any(inner.startswith(f"{one}.") for inner in wanted)} - {module}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, f"cycle: {' -> '.join((*path[path.index(module) :], module))}"
        if module not in done:
            for following in graph.get(module, ()):
                visit(following, (*path, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_files_stay_small() -> None:
    paths = [*SOURCE.rglob("*.py"), *(ROOT / "src/ferryman_copy").glob("*.py")]
    lengths = {str(path): len(path.read_text().splitlines()) for path in paths}
    assert not {name: length for name, length in lengths.items() if length > 500}
    filled = sorted(length for length in lengths.values() if length > 5)
    assert filled[len(filled) // 2] <= 150


def test_pure_layers_do_not_look_at_the_clock_or_the_world() -> None:
    for name, tree in modules():
        if layer(name) in ("model", "assess", "plan", "prepare", "verify", "report"):
            assert not {"time", "random", "os", "socket", "subprocess", "threading"} & set(imports(tree)), name


def test_every_step_that_runs_is_in_the_list_that_tests_kill_at() -> None:
    from ferryman.plan.backup import BACKUP_STEPS
    from ferryman.plan.restore import RESTORE_STEPS
    from ferryman.plan.steps import WORKFLOW_STEPS

    used = {
        node.args[0].value
        for name, tree in modules()
        if name.startswith("execute/")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "step"
        if isinstance(node.args[0], ast.Constant)
    }
    assert used == {*WORKFLOW_STEPS, *BACKUP_STEPS, *RESTORE_STEPS}


def test_every_file_and_package_opens_with_what_it_is_for() -> None:
    assert not [name for name, tree in modules() if not ast.get_docstring(tree)]


def test_ports_are_at_most_six_and_drivers_implement_what_they_say() -> None:
    protocols = [
        node.name
        for name, tree in modules()
        if name.startswith("ports/")
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        and any(isinstance(base, ast.Name) and base.id == "Protocol" for base in node.bases)
    ]
    # A conversation that a port hands out (a running transfer, a watcher, a folder) is part of its port.
    assert len(set(protocols) - {"Transfer", "Watcher", "Folder"}) <= 6
