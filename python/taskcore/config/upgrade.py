"""Old names of settings in the source of a module, under their new names."""

from __future__ import annotations

import ast
import io
import tokenize

from taskcore.config.sources import new_name


def upgraded(source: str, prefix: str = "") -> str:
    """The source with the settings that it sets, and then reads, under their new names; all else
    is as it was, strings and comments too.

    Args:
        prefix: `CELERY_` for modules that other programs read as well, as Django's: new names are
            in capitals behind it.
    Raises:
        SyntaxError: it is not Python.
    """
    names = {name: _renamed(name, prefix) for name in _set_in(ast.parse(source))}
    # Not `splitlines`, which ends lines where Python's own reader does not.
    lines = list(io.StringIO(source))
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    last: tokenize.TokenInfo | None = None
    found: list[tokenize.TokenInfo] = []
    for token in tokens:
        is_attribute = last is not None and last.string == "."
        if token.type == tokenize.NAME and token.string in names and not is_attribute:
            found.append(token)
        last = token
    for token in reversed(found):
        row, column = token.start
        line = lines[row - 1]
        lines[row - 1] = line[:column] + names[token.string] + line[token.end[1] :]
    return "".join(lines)


def _renamed(name: str, prefix: str) -> str:
    new = new_name(name)
    if new is None:
        return name
    return prefix + new.upper() if prefix else new


def _set_in(module: ast.Module) -> set[str]:
    """Names that the module sets anywhere outside of functions and classes."""
    found: set[str] = set()
    todo: list[ast.AST] = [module]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            todo.extend(ast.iter_child_nodes(node))
    return found
