"""What follows a task whose end the worker decided: it was killed, lost with its process, or too late."""

import datetime as dt
from typing import Any

import pytest

from support.site import Site
from support.wait import until
from taskcore.exceptions import TaskRevokedError, TimeLimitExceeded, WorkerLostError
from taskcore.result import AsyncResult

WAIT = 30


def mourners(site: Site) -> list[Any]:
    return [site.task("mourn").s(), site.task("bury").s()]


def next_of(site: Site, task_id: str) -> AsyncResult[Any]:
    return AsyncResult(task_id, app=site.app)


@pytest.mark.parametrize(
    ("task", "args", "limit", "error"),
    [
        ("spin", (60,), 0.3, TimeLimitExceeded),
        ("die", ("x",), None, WorkerLostError),
        ("die_late", ("x",), None, WorkerLostError),
    ],
)
def test_error_callbacks_and_the_chain_learn_that_a_process_was_lost(
    site: Site, task: str, args: Any, limit: float | None, error: type[Exception]
) -> None:
    site.worker("-c", "1")
    follows = site.task("add").s(1).set(task_id=f"next-{task}")
    result = site.task(task).apply_async(
        args, time_limit=limit, link_error=mourners(site), chain=[follows]
    )
    with pytest.raises(error):
        result.get(timeout=WAIT)
    with pytest.raises(error):
        next_of(site, f"next-{task}").get(timeout=WAIT)
    told = {f"mourned {result.id}", f"buried {result.id} {error.__name__}"}
    until(lambda: told <= set(site.written()), f"{told} in {site.written()}")
    until(lambda: site.queue()["in_flight"] == 0, "everything settled")
    assert site.queue()["dead"] == (1 if task == "die_late" else 0)


def test_an_expired_task_revokes_the_rest_of_its_chain(site: Site) -> None:
    past = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1)
    follows = site.task("add").s(1).set(task_id="next")
    result = site.task("add").apply_async(
        (1,), expires=past, link_error=mourners(site), chain=[follows]
    )
    site.worker("-c", "1")
    for one in (result, next_of(site, "next")):
        with pytest.raises(TaskRevokedError):
            one.get(timeout=WAIT)
    assert site.task("add").delay(1, 1).get(timeout=WAIT) == 2
    assert site.written() == [], "error callbacks are for failures, as in Celery"


def test_hooks_run_when_a_task_was_killed(sqlite_site: Site) -> None:
    sqlite_site.worker("-c", "1")
    held = sqlite_site.task("hold_hooked")
    result = held.apply_async((str(sqlite_site.gate()),), time_limit=0.3)
    with pytest.raises(TimeLimitExceeded):
        result.get(timeout=WAIT)
    assert sqlite_site.wait_written(3) == [
        "begin held",
        "on_failure TimeLimitExceeded",
        "after_return FAILURE",
    ]


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_a_hard_limit_that_a_pool_cannot_keep_is_warned_of(sqlite_site: Site, pool: str) -> None:
    worker = sqlite_site.worker("-P", pool)
    result = sqlite_site.task("add").apply_async((1, 2), time_limit=9)
    assert result.get(timeout=WAIT) == 3
    told = f"[{result.id}] runs without its hard time limit (9s): pool {pool} cannot kill a task"
    until(lambda: told in worker.output, f"{told} in {worker.output}")


def test_a_declared_failure_is_a_line_without_traceback(sqlite_site: Site) -> None:
    worker = sqlite_site.worker("-c", "1")
    declared, other = sqlite_site.task("expect").delay(), sqlite_site.task("fail").delay("loud")
    for result in (declared, other):
        result.get(timeout=WAIT, propagate=False)
    assert "KeyError: 'declared'" in declared.traceback
    until(lambda: "raised unexpected: ValueError('loud')" in worker.output, "the other's line")
    line = next(row for row in worker.output.splitlines() if declared.id in row and "raised" in row)
    assert "INFO" in line and line.endswith("raised expected: KeyError('declared')")
    assert worker.output.count("KeyError") == 1


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_a_receiver_connected_by_a_task_hears_the_next_one(sqlite_site: Site, pool: str) -> None:
    sqlite_site.worker("-P", pool, "-c", "1")
    add = sqlite_site.task("add")
    assert add.delay(1, 1).get(timeout=WAIT) == 2
    sqlite_site.task("listen").delay().get(timeout=WAIT)
    assert add.delay(1, 1).get(timeout=WAIT) == 2
    assert sqlite_site.written() == ["heard sample.add"]


def test_a_header_of_the_callers_own_is_an_attribute(sqlite_site: Site) -> None:
    sqlite_site.worker("-P", "solo")
    result = sqlite_site.task("header").apply_async(headers={"color": "red"})
    assert result.get(timeout=WAIT) == ["red", {"color": "red"}]


def test_a_rejected_task_has_failed(sqlite_site: Site) -> None:
    sqlite_site.worker("-c", "1")
    result = sqlite_site.task("reject").delay(False)
    with pytest.raises(Exception, match="not mine"):
        result.get(timeout=WAIT)
    assert result.state == "FAILURE"


def test_the_log_shows_a_task_under_its_shadow(sqlite_site: Site) -> None:
    worker = sqlite_site.worker("-c", "1")
    shown = sqlite_site.task("add").apply_async((1, 2), shadow="sum of shop 7")
    ignored = sqlite_site.task("ignore").apply_async(shadow="none of shop 7")
    assert shown.get(timeout=WAIT) == 3
    for text in (
        f"Task sum of shop 7[{shown.id}] received",
        f"Task sum of shop 7[{shown.id}] succeeded in ",
        f"Task none of shop 7[{ignored.id}] ignored",
    ):
        until(lambda text=text: text in worker.output, f"{text} in {worker.output}")
    assert worker.output.rstrip().endswith(" ignored")


FORGED = [
    None,
    True,
    False,
    0,
    1,
    -1.5,
    "",
    "FAILURE",
    [],
    ["FAILURE"],
    {},
    {"state": "SUCCESS"},
    {"state": "REVOKED", "exc_type": "TaskRevokedError", "exc_message": ["expired"]},
    {"state": "FAILURE", "exc_type": "X", "exc_message": [], "exc_module": "builtins"},
]


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_no_header_makes_a_worker_believe_that_a_task_has_ended(
    sqlite_site: Site, pool: str
) -> None:
    apps = [sqlite_site.app, sqlite_site.client(task_protocol=2, task_default_queue="taskcore")]
    results = [
        app.tasks["sample.echo"].apply_async((n,), headers={"taskcore-ended": value})
        for app in apps
        for n, value in enumerate(FORGED)
    ]
    assert len(results) == 28
    sqlite_site.worker("-P", pool, "-c", "2")
    for app in apps:
        shown = app.tasks["sample.headers"].apply_async(headers={"taskcore-ended": "mine"})
        assert shown.get(timeout=WAIT) == {"taskcore-ended": "mine"}
    for n, result in enumerate(results):
        assert result.get(timeout=WAIT) == n % len(FORGED)
