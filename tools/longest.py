"""Prints the five longest files and functions of the sources, tests left out, so that the tail
stays in sight.

Lines of a file end at its test module (`#[cfg(test)]`). A function's length is counted from its
signature to its closing brace (Rust) or its last statement (Python). Over the limit of STYLE is
marked, not refused: the reviewer decides.
"""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILE_LIMIT, FUNCTION_LIMIT = 400, 60
FN = re.compile(
    r"^(\s*)(?:pub(?:\([^)]*\))?\s+)?(?:const\s+|async\s+|unsafe\s+|extern\s+\"C\"\s+)*fn\s+(\w+)"
)


def rust_lines(path: Path) -> list[str]:
    """The lines of a Rust file before its tests."""
    lines = path.read_text().splitlines()
    for number, line in enumerate(lines):
        if line.startswith("#[cfg(test)]") and any(
            later.startswith("mod ") for later in lines[number : number + 3]
        ):
            return lines[:number]
    return lines


def is_declaration(lines: list[str]) -> bool:
    """Whether a function has no body, as in a trait."""
    last = next((line for line in lines if line.endswith(("{", "}", ";"))), ";")
    return last.endswith(";")


def rust_functions(lines: list[str]) -> list[tuple[int, str]]:
    """Length and name of every function; rustfmt puts the closing brace under the signature."""
    found = []
    for number, line in enumerate(lines):
        head = FN.match(line)
        if head is None or is_declaration(lines[number:]):
            continue
        end = next(
            (n for n in range(number, len(lines)) if lines[n].startswith(head[1] + "}")), number
        )
        found.append((end + 1 - number, head[2]))
    return found


def python_functions(source: str) -> list[tuple[int, str]]:
    """Length and name of every function, its docstring not counted."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if ast.get_docstring(node) is not None:
                text = node.body[0]
                length -= (text.end_lineno or text.lineno) - text.lineno + 1
            found.append((length, node.name))
    return found


def main() -> None:
    """Collects and prints."""
    files: list[tuple[int, str]] = []
    functions: list[tuple[int, str]] = []
    for path in sorted([*ROOT.glob("rust/*/src/**/*.rs"), *ROOT.glob("python/**/*.py")]):
        name = str(path.relative_to(ROOT))
        if path.name.endswith("tests.rs") or "/tests/" in name:
            continue
        if path.suffix == ".rs":
            lines = rust_lines(path)
            inside = rust_functions(lines)
        else:
            source = path.read_text()
            lines = source.splitlines()
            inside = python_functions(source)
        files.append((len(lines), name))
        functions += [(length, f"{name}: {function}") for length, function in inside]
    for title, limit, found in (
        ("files", FILE_LIMIT, files),
        ("functions", FUNCTION_LIMIT, functions),
    ):
        print(f"longest {title} (limit {limit} lines)")
        for length, name in sorted(found, reverse=True)[:5]:
            print(f"  {length:5} {'!' if length > limit else ' '} {name}")


if __name__ == "__main__":
    main()
