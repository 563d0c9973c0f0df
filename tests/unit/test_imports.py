"""What a program pays for at import: asked in a fresh interpreter, because tests import everything."""

import subprocess
import sys

import pytest

_IMPORT = "import taskcore"
_DELAY = """
from taskcore import Taskcore
app = Taskcore("proj", broker="memory://", backend="memory://")
task = app.task(lambda x: x, name="t")
task.delay(1)
task.delay(2)
"""
_FOR_AN_APP = {
    "taskcore.app",
    "taskcore.config",
    "taskcore.publishing",
    "taskcore.task",
}
"""What is imported with the first name that is asked of the package."""
_NEVER = {
    "asyncio",
    "click",
    "collections",
    "contextlib",
    "dataclasses",
    "datetime",
    "enum",
    "functools",
    "importlib",
    "inspect",
    "logging",
    "re",
    "signal",
    "socket",
    "taskcore.canvas",
    "taskcore.cli",
    "taskcore.execution",
    "taskcore.results.eager_result",
    "taskcore.results.exception_codec",
    "taskcore.results.result_set",
    "taskcore.serialize",
    "taskcore.testing",
    "taskcore.unsupported",
    "taskcore.worker",
    "traceback",
    "typing",
    "warnings",
    "weakref",
    "zoneinfo",
}
"""What executes tasks or serves a terminal, and the heavy modules of the standard library."""


@pytest.mark.parametrize(
    ("code", "unwanted"),
    [(_IMPORT, _NEVER | _FOR_AN_APP), (_DELAY, _NEVER)],
    ids=["import", "delay"],
)
def test_what_a_producer_does_not_need_is_not_imported(code: str, unwanted: set[str]) -> None:
    # Without site-packages' own start-up files, which import what they like; with the compiled core.
    script = (
        f"import sys; sys.path[:0] = {sys.path!r}\n"
        "before = set(sys.modules)\n"
        f"{code}\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    ran = subprocess.run(
        [sys.executable, "-S", "-c", script], capture_output=True, text=True, check=True
    )
    imported = set(ran.stdout.split())
    assert "taskcore" in imported
    assert imported & unwanted == set()
