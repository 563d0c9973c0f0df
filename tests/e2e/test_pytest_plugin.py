"""Celery's fixtures, as tests of a project use them; each test is a run of pytest of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = """
import pytest
from taskcore import Task

class Doubled(Task):
    name = "doubled"
    def run(self, x):
        return 2 * x

@pytest.fixture(scope="session")
def celery_includes():
    return ["proj_tasks"]

@pytest.fixture(scope="session")
def celery_class_tasks():
    return [Doubled]

@pytest.fixture(scope="session")
def celery_config():
    return {"task_default_priority": 4, "result_extended": True}

@pytest.fixture(scope="session")
def taskcore_parameters():
    return {"strict_typing": False, "task_default_queue": "tests"}
"""
TASKS = """
from taskcore import shared_task

@shared_task
def add(x, y):
    return x + y
"""
TESTS = """
import threading
import pytest
from taskcore import current_app, shared_task
from taskcore.signals import worker_ready

def test_a_task_of_the_test(celery_app, celery_worker):
    @celery_app.task
    def mul(x, y):
        return x * y, threading.current_thread() is threading.main_thread()
    celery_worker.reload()
    assert mul.delay(4, 4).get(timeout=10) == [16, False]

def test_a_shared_task(celery_session_app, celery_session_worker):
    from proj_tasks import add
    assert add.delay(1, 2).get(timeout=10) == 3
    assert celery_session_app.tasks["doubled"].delay(4).get(timeout=10) == 8

@pytest.mark.celery(task_default_priority=7, broker_url="memory://named")
def test_the_marker(celery_app):
    assert celery_app.conf.task_default_priority == 7
    assert celery_app.conf.broker_url == "memory://named"

def test_settings(taskcore_app, celery_app):
    assert taskcore_app is celery_app and not taskcore_app.strict_typing
    assert taskcore_app.conf.task_default_priority == 4
    assert taskcore_app.conf.task_default_queue == "tests"
    assert current_app._get_current_object() is taskcore_app

def test_each_test_has_an_app_of_its_own(celery_app):
    assert "mul" not in " ".join(celery_app.tasks)

def test_failures_and_retries(celery_app, taskcore_worker):
    pass
"""
TRAP = """
import pytest
from taskcore import current_app

@pytest.fixture(scope="session")
def use_celery_app_trap():
    return True

def test_trapped(celery_app):
    with pytest.raises(RuntimeError, match="asked for `conf`"):
        current_app.conf

def test_set(celery_app, depends_on_current_app):
    assert current_app.conf is celery_app.conf
"""


def run(folder: Path, *words: str) -> str:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "--strict-markers",
            *words,
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "proj_tasks.py").write_text(TASKS)
    return tmp_path


@pytest.mark.parametrize("named", [False, True])
def test_the_fixtures(folder: Path, named: bool) -> None:
    """Also where the plugin is named, as Celery's has to be."""
    plugins = 'pytest_plugins = ("taskcore.contrib.pytest",)\n' if named else ""
    (folder / "conftest.py").write_text(plugins + CONFTEST)
    (folder / "test_proj.py").write_text(TESTS)
    assert "6 passed" in run(folder)


def test_the_trap(folder: Path) -> None:
    (folder / "test_trap.py").write_text(TRAP)
    assert "2 passed" in run(folder)


def test_the_pool_threads_and_what_a_worker_cannot_be(folder: Path) -> None:
    (folder / "test_pool.py").write_text("""
import pytest
from taskcore.contrib.testing.app import TestApp
from taskcore.contrib.testing.worker import start_worker, test_worker_started

def test_pools():
    seen = []
    test_worker_started.connect(lambda sender, worker, **_: seen.append(worker), weak=False)
    app = TestApp(config={"task_default_queue": "own"})
    add = app.task(lambda x, y: x + y, name="add")
    with start_worker(app, pool="threads", concurrency=2, loglevel="info", without_heartbeat=True) as worker:
        assert add.delay(1, 2).get(timeout=10) == 3
        assert seen == [worker] and worker.hostname == app.hostname
        assert worker.active_queues() == ["own"]
    with pytest.raises(ValueError, match="`prefork`"), start_worker(app, pool="prefork"):
        pass
""")
    assert "1 passed" in run(folder)
