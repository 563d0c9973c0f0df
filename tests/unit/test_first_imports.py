"""First imports from several threads at once: a package that imports its own module while another
thread has begun with that module is a deadlock, which Python ends with an exception in one of
them. Asked in fresh interpreters that switch threads as often as they can."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[2] / "python"
INTERPRETERS = 10
"""Where a deadlock is possible, about every second one meets it."""

_PROGRAM = f"""
import sys, threading
sys.path[:0] = {sys.path!r}
sys.setswitchinterval(1e-6)
wanted = sys.argv[1:]
errors, ready = [], threading.Barrier(len(wanted))
def ask(name):
    ready.wait()
    try:
        exec("from taskcore import " + name, {{}})
    except BaseException as exc:
        errors.append((name, repr(exc)))
threads = [threading.Thread(target=ask, args=[name]) for name in wanted]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(*errors, end="")
"""


def test_several_threads_may_ask_for_the_first_name() -> None:
    wanted = ["Celery", "shared_task", "current_app"]
    running = [
        subprocess.Popen(
            [sys.executable, "-S", "-c", _PROGRAM, *wanted],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(INTERPRETERS)
    ]
    assert {process.communicate()[0] for process in running} == {""}


def test_a_package_that_imports_its_modules_is_imported_in_their_place() -> None:
    # The rule that keeps the threads apart, for every package and not only those above.
    own = {
        f"{package}.{name}": package
        for package in ("taskcore.app", "taskcore.canvas")
        for name in ("shared", "signature", "base")
    }
    wrong = []
    for path in (SOURCES / "taskcore").rglob("*.py"):
        module = ".".join(path.relative_to(SOURCES).with_suffix("").parts)
        for node in _executed(ast.parse(path.read_text())):
            package = own.get(getattr(node, "module", None) or "")
            if isinstance(node, ast.ImportFrom) and package and not module.startswith(package):
                wrong.append(f"{module}:{node.lineno} names {node.module}")
    assert wrong == []


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes below, without what only a type checker reads."""
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _executed(child)
