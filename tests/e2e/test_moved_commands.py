"""Commands that people who look after a moved project type: shell, list, upgrade."""

import importlib.util
import os
import subprocess
from pathlib import Path

import pytest

from support.process import TASKCORE, run
from support.site import Site


def typed(site: Site, text: str, *words: str) -> str:
    """What a prompt answers to some lines."""
    return subprocess.run(
        [TASKCORE, "-A", "sample", *site.globals_, "shell", *words],
        input=text,
        cwd=site.folder,
        env=os.environ | site.env,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    ).stdout


def test_a_prompt_knows_the_app_and_its_tasks(sqlite_site: Site) -> None:
    said = typed(
        sqlite_site,
        "print(celery is app, add(40, 2), type(group(add.s(1))).__name__)\n",
        "--python",
    )
    assert "True 42 group" in said
    said = typed(sqlite_site, "print(app.main, 'add' in globals())\n", "--python", "-T")
    assert "False" in said


@pytest.mark.parametrize("option", ["--ipython", "--bpython"])
def test_a_prompt_that_is_not_installed(sqlite_site: Site, option: str) -> None:
    name = {"--ipython": "IPython", "--bpython": "bpython"}[option]
    if importlib.util.find_spec(name):
        pytest.skip(f"{name} is installed")
    assert "is not installed" in sqlite_site.cli("shell", option, code=2)


def test_event_loops_are_refused(sqlite_site: Site) -> None:
    assert "`--gevent` of Celery's is not" in sqlite_site.cli("shell", "--gevent", code=2)


def test_bindings_are_those_of_the_queues(site: Site) -> None:
    site.task("add").apply_async((1,), queue="far")
    lines = site.cli("list", "bindings").splitlines()
    assert [line.split() for line in lines] == [
        ["queue", "exchange", "type", "routing", "key"],
        ["taskcore", "taskcore", "direct", "taskcore"],
        ["far", "direct", "far"],
    ]


def test_settings_are_upgraded(tmp_path: Path) -> None:
    file = tmp_path / "old.py"
    file.write_text("CELERY_TASK_SERIALIZER = 'json'\nBROKER_URL = 'a'\n")
    run("upgrade", "settings", "--django", "old.py", cwd=tmp_path)
    assert file.read_text() == "CELERY_TASK_SERIALIZER = 'json'\nCELERY_BROKER_URL = 'a'\n"
    assert "BROKER_URL = 'a'\n" in (tmp_path / "old.py.orig").read_text()
    assert "no old names" in run("upgrade", "settings", "--compat", "old.py", cwd=tmp_path)
    file.write_text("no Python")
    assert "is not a module" in run("upgrade", "settings", "old.py", cwd=tmp_path, code=1)
