"""Programs that run the command line themselves, and the report of an app."""

import sys
from pathlib import Path

import pytest

import taskcore
from support.process import Process, run
from support.site import Site
from taskcore import Taskcore

SCRIPT = """
import sys
from taskcore import Celery

app = Celery("scripted", broker={url!r}, backend={url!r}, broker_pool_limit=3)

@app.task
def add(x, y):
    return x + y

if __name__ == "__main__":
    sys.exit(app.{call})
"""


def script(folder: Path, call: str, url: str = "memory://") -> str:
    path = folder / "scripted.py"
    path.write_text(SCRIPT.format(url=url, call=call))
    return str(path)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("worker_main(['worker', '-c', '1', '-l', 'info'])", []),
        ("worker_main()", ["worker", "-c", "1", "-l", "info"]),
        ("start(['worker', '-P', 'threads', '-c', '1', '-l', 'info'])", []),
    ],
)
def test_a_script_is_a_worker(sqlite_site: Site, call: str, words: list[str]) -> None:
    path = script(sqlite_site.folder, call, sqlite_site.broker)
    worker = Process([sys.executable, path, *words], cwd=sqlite_site.folder)
    sqlite_site.processes.append(worker)
    worker.wait_for(r"\bready\b")
    assert sqlite_site.app.send_task("scripted.add", (40, 2)).get(timeout=30) == 42
    assert worker.stop() == 0


def test_a_script_runs_other_commands_for_its_app(
    sqlite_site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    app = Taskcore("inner", broker=sqlite_site.broker, set_as_current=False)
    app.send_task("t", queue="found")
    assert app.start(["queues", "-Q", "found", "--json"]) == 0
    assert '"depth": 1' in capsys.readouterr().out


def test_a_worker_must_be_asked_for() -> None:
    with pytest.raises(ValueError, match="expected the command `worker`"):
        Taskcore("proj", set_as_current=False).worker_main(["-l", "info"])


def test_a_report_has_versions_and_settings_and_no_password(tmp_path: Path) -> None:
    script(tmp_path, "start()", "redis://u:hidden@localhost/1")
    text = run("-A", "scripted", "report", cwd=tmp_path)
    assert f"taskcore:{taskcore.__version__}" in text
    assert "transport:redis" in text and "without effect:broker_pool_limit" in text
    assert "result_backend: 'redis://u:***@localhost/1'" in text
    # Behind it is the warning, with the line of the script.
    assert "hidden" not in text.partition("SettingIgnored")[0]


def test_a_report_needs_no_app(tmp_path: Path) -> None:
    assert f"taskcore:{taskcore.__version__}" in run("report", cwd=tmp_path)


def test_a_report_is_the_current_apps_or_a_given_ones() -> None:
    app = Taskcore("proj", broker="memory://reported", set_as_current=False)
    assert taskcore.bugreport(app) == app.bugreport()
    assert "memory://reported" in app.bugreport()
    assert "memory://reported" not in taskcore.bugreport()
