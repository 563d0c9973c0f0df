"""Celery's settings for logs."""

import re

from support.site import Site

WAIT = 30
APP = """
import logging, sys
from taskcore import Taskcore
from taskcore.utils.log import get_task_logger

app = Taskcore("logs")
app.conf.update({settings})
logger = get_task_logger("shop.tasks")

@app.task(name="logs.speak")
def speak():
    logger.error("of the task")
    logging.getLogger("shop").error("of the shop")
    print("printed", 5, end="")
    print("to the other stream", file=sys.stderr)
"""


def lines(site: Site, env: dict[str, str] | None = None, **settings: object) -> list[str]:
    """What the worker writes while a task speaks."""
    (site.folder / "logs.py").write_text(APP.replace("{settings}", repr(settings)))
    worker = site.worker("-c", "1", "-l", "warning", app="logs", env=env)
    result = site.app.send_task("logs.speak")
    result.get(timeout=WAIT)
    assert worker.stop() == 0
    return [line for line in worker.lines if re.search("of the|printed|stream", line)]


def test_formats_are_those_of_the_settings(sqlite_site: Site) -> None:
    said = lines(
        sqlite_site,
        worker_log_format="W %(levelname)s %(processName)s %(message)s",
        CELERYD_TASK_LOG_FORMAT="T %(asctime)s %(task_name)s[%(task_id)s] %(message)s",
        worker_log_datefmt="%Y",
    )
    assert re.fullmatch(r"T \d{4} logs\.speak\[[0-9a-f-]{36}\] of the task", said[0])
    assert re.fullmatch(r"W ERROR Child-\d+ of the shop", said[1])


def test_colours_where_they_are_asked_for_and_not_refused(sqlite_site: Site) -> None:
    asked = {"worker_log_color": True, "worker_log_format": "%(message)s"}
    assert lines(sqlite_site, **asked)[0] == "\033[31mof the task\033[0m"
    assert lines(sqlite_site, {"NO_COLOR": "1"}, **asked)[0] == "of the task"


def test_what_tasks_print_is_a_record_where_that_is_asked(sqlite_site: Site) -> None:
    plain = {"worker_log_format": "%(name)s %(levelname)s %(message)s"}
    said = lines(
        sqlite_site, worker_redirect_stdouts=True, worker_redirect_stdouts_level="error", **plain
    )
    assert "taskcore.redirected ERROR printed" in said
    assert "taskcore.redirected ERROR to the other stream" in said
    assert not any("redirected" in line for line in lines(sqlite_site, **plain))
