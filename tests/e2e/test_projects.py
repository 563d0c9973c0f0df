"""Projects as their authors wrote them for Celery, each run with its import changed, and as it stands."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.process import TASKCORE, Process

PROJECTS = Path(__file__).resolve().parents[1] / "projects"
WAIT = 90

PLAIN = """\
a b by me
[2, 'sales']
42 12
stopped
5 True
/tmp/reports Europe/Oslo
"""
SITE = """\
a bicycle at 0 True
a bicycle True Europe/Oslo
True
site_proj True
"""
SERVICE = """\
202 4.0
{'name': 'HAT', 'price': 2.0}
"""


class Project:
    """A copy of a project, with its worker."""

    def __init__(self, name: str, folder: Path, broker: str, changed: bool) -> None:
        self.folder = folder / name
        shutil.copytree(PROJECTS / name, self.folder)
        self.changed = changed
        if changed:
            for path in self.folder.rglob("*.py"):
                path.write_text(with_changed_import(path.read_text()))
        upper = name.upper()
        self.env = {
            f"{upper}_BROKER": broker,
            f"{upper}_RESULTS": broker,
            "SITE_DATABASE": str(folder / "site.sqlite3"),
            "SITE_MAILBOX": str(folder / "mailbox"),
        }
        self.worker: Process | None = None

    def start(self, app: str) -> None:
        """Starts a worker."""
        celery = [] if self.changed else ["celery"]
        command = [TASKCORE, *celery, "-A", app, "worker", "-c", "2", "-l", "info"]
        self.worker = Process(command, cwd=self.folder, env=self.env)
        self.worker.wait_for(r"\bready\b", WAIT)

    def check(self) -> str:
        """What the program that calls the tasks prints."""
        shim = "" if self.changed else "import taskcore.as_celery\n"
        source = f"{shim}import runpy, sys\nsys.path.insert(0, '')\nrunpy.run_path('check.py')"
        done = subprocess.run(
            [sys.executable, "-c", source],
            cwd=self.folder,
            env=os.environ | self.env,
            capture_output=True,
            text=True,
            timeout=WAIT,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def end(self) -> None:
        """Ends the worker, which must end well."""
        if self.worker is not None:
            try:
                assert self.worker.stop() == 0, self.worker.output
            finally:
                self.worker.kill()


def with_changed_import(source: str) -> str:
    """The source, with taskcore where it says Celery."""
    source = re.sub(r"^(\s*)(from|import) celery\b", r"\1\2 taskcore", source, flags=re.MULTILINE)
    return source.replace("from billiard.exceptions", "from taskcore.exceptions")


@pytest.fixture(params=["sqlite", "redis"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "redis":
        url: str = request.getfixturevalue("redis_url")
        return url
    return f"sqlite:///{tmp_path / 'queue.db'}"


@pytest.fixture(params=["changed import", "as it stands"])
def project_of(
    request: pytest.FixtureRequest, tmp_path: Path, broker: str
) -> Iterator[Callable[[str], Project]]:
    made: list[Project] = []

    def make(name: str) -> Project:
        made.append(Project(name, tmp_path, broker, request.param == "changed import"))
        return made[-1]

    yield make
    for project in made:
        project.end()


@pytest.mark.parametrize(
    ("name", "app", "printed"),
    [("plain", "plain", PLAIN), ("site", "site_proj", SITE), ("service", "worker", SERVICE)],
    ids=["plain", "site", "service"],
)
def test_a_project_moves_in(
    project_of: Callable[[str], Project], name: str, app: str, printed: str
) -> None:
    project = project_of(name)
    project.start(app)
    assert project.check() == printed
