"""`import taskcore.as_celery`: every public name of Celery's can be imported, and what is missing says
so when it is used."""

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

import celery_names

from support.process import python
from taskcore.contrib.celery_names import MISSING

IMPORT_ALL = """
import importlib, sys
import taskcore.as_celery
for line in sys.stdin:
    module, *names = line.split()
    found = importlib.import_module(module)
    for name in names:
        if not hasattr(found, name):
            print(module, name)
    exec(f"from {module} import *", {})
"""


def test_the_table_of_what_is_missing_is_true() -> None:
    """`python tools/celery_names.py > python/taskcore/contrib/celery_names.py` writes it."""
    told = {module: names.split() for module, names in MISSING.items()}
    assert told == {k: [n for n in v if n[0] != "_"] for k, v in celery_names.missing().items()}


def test_every_public_name_of_celery_can_be_imported() -> None:
    lines = [
        " ".join([f"celery.{module}".rstrip("."), *(n for n in names if n[0] != "_")])
        for module, names in celery_names.names().items()
    ]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", IMPORT_ALL],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_what_is_missing_says_so_at_its_first_use(tmp_path: Path) -> None:
    printed = python(
        """
import taskcore.as_celery
from celery import bootsteps
from celery.contrib.abortable import AbortableTask
from celery.exceptions import CDeprecationWarning, SoftTimeLimitExceeded
from celery.utils.functional import maybe_list
import billiard, taskcore.exceptions
from billiard.exceptions import SoftTimeLimitExceeded as Other

class Step(bootsteps.StartStopStep):
    requires = {"celery.worker.components:Pool"}

assert Other is SoftTimeLimitExceeded is taskcore.exceptions.SoftTimeLimitExceeded
assert billiard.cpu_count() > 0
for use in (Step, lambda: maybe_list(1), lambda: AbortableTask.is_aborted):
    try:
        use()
    except NotImplementedError as error:
        print(error)
try:
    from celery.utils.functional import nothing_of_that_name
except ImportError as error:
    print("ordinary")
try:
    import celery.nowhere
except ModuleNotFoundError as error:
    print(error)
""",
        cwd=tmp_path,
    )
    first, second, third, *rest = printed.splitlines()
    assert "`celery.bootsteps.StartStopStep` of Celery's is not in this version" in first
    assert "`celery.utils.functional.maybe_list`" in second and "standard library" in second
    assert "`celery.contrib.abortable.AbortableTask`" in third and "a flag of your own" in third
    assert rest == ["ordinary", "No module named 'celery.nowhere'"]


def test_celery_itself_must_not_have_been_imported_before(tmp_path: Path) -> None:
    source = "import celery.app\ntry:\n    import taskcore.as_celery\nexcept RuntimeError as e:\n    print(e)"
    assert "expected the other order" in python(source, cwd=tmp_path)


@pytest.mark.parametrize("words", [["--help"], ["worker", "--help"]])
def test_every_command_runs_behind_celery(tmp_path: Path, words: list[str]) -> None:
    from support.process import run

    assert "Usage: taskcore celery" in run("celery", *words, cwd=tmp_path)


def test_without_kombu_the_few_names_that_projects_import_are_here(tmp_path: Path) -> None:
    printed = python(
        """
import sys
sys.modules["kombu"] = None
import importlib.util
before = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "kombu" else before(name, *rest)
import taskcore.contrib.celery_alias as alias
alias.find_spec = importlib.util.find_spec
del sys.modules["kombu"]
alias.install()
from kombu import Connection, Producer
from kombu.exceptions import OperationalError
from kombu.serialization import register
from kombu.utils import uuid
import taskcore.exceptions
print(OperationalError is taskcore.exceptions.OperationalError, len(uuid()))
try:
    Connection("redis://")
except NotImplementedError as error:
    print(error)
""",
        cwd=tmp_path,
    )
    assert printed.splitlines()[0] == "True 36" and "`kombu.Connection`" in printed
