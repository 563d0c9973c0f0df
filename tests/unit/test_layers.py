"""The rules about the boundary that import-linter cannot see: who may import the compiled core,
and who reads the environment."""

import ast
from collections.abc import Iterator
from pathlib import Path

import taskcore

PACKAGE = Path(taskcore.__file__).parent
CORE_USERS = {"__init__.py", "serialize.py"} | {
    *("app", "beat", "publishing", "results", "schedules", "worker"),
}
"""Modules and packages that may import the core; all else runs and is tested without it."""
ENVIRONMENT_READERS = {"config/conf.py"}


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(PACKAGE).as_posix(), ast.parse(path.read_text())


def type_checking(tree: ast.Module) -> set[ast.AST]:
    """Everything below `if TYPE_CHECKING:`, which never runs."""
    return {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }


def imports_core(tree: ast.Module) -> bool:
    skipped = type_checking(tree)
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.ImportFrom):
            names = {alias.name for alias in node.names}
            if node.module == "taskcore._core" or (node.module == "taskcore" and "_core" in names):
                return True
        elif isinstance(node, ast.Import) and any(
            alias.name == "taskcore._core" for alias in node.names
        ):
            return True
    return False


def test_only_these_modules_know_the_core() -> None:
    users = {name.partition("/")[0] for name, tree in modules() if imports_core(tree)}
    assert users <= CORE_USERS


def test_only_the_configuration_reads_the_environment() -> None:
    readers = {
        name
        for name, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")
    }
    assert readers <= ENVIRONMENT_READERS


def test_the_core_crate_does_not_know_python() -> None:
    manifest = Path(__file__).resolve().parents[2] / "rust" / "core" / "Cargo.toml"
    assert "pyo3" not in manifest.read_text()
