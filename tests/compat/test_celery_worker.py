"""A taskcore client with `task_protocol = 2`, a stock Celery worker."""

import datetime as dt
import time
import uuid
from decimal import Decimal
from typing import Any

import pytest

from taskcore.exceptions import TaskRevokedError

WAIT = 30


def test_values(mixed: Any) -> None:
    mixed.celery_worker()
    assert mixed.task("add").delay(2, 3).get(timeout=WAIT) == 5
    assert mixed.task("add").delay(2, y=4).get(timeout=WAIT) == 6
    typed = {
        "at": dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC),
        "day": dt.date(2026, 1, 2),
        "id": uuid.UUID(int=7),
        "price": Decimal("1.10"),
        "raw": b"\x00\xff",
        "text": "☃",
        "deep": [None, True, [1.5, {"x": []}]],
    }
    assert mixed.task("echo").delay(typed).get(timeout=WAIT) == typed


def test_bulk(mixed: Any) -> None:
    mixed.celery_worker()
    results = mixed.task("add").apply_many([(n, n) for n in range(200)])
    assert [result.get(timeout=WAIT) for result in results] == [2 * n for n in range(200)]


@pytest.mark.parametrize("compression", ["gzip", "bzip2", "zstd"])
def test_compressed_bodies(mixed: Any, compression: str) -> None:
    mixed.celery_worker()
    result = mixed.task("echo").apply_async(("x" * 10_000,), compression=compression)
    assert result.get(timeout=WAIT) == "x" * 10_000


def test_exceptions(mixed: Any) -> None:
    mixed.celery_worker()
    result = mixed.task("fail").delay("on purpose")
    with pytest.raises(ValueError, match="on purpose"):
        result.get(timeout=WAIT)
    assert result.state == "FAILURE" and "in fail" in result.traceback


def test_eta_and_countdown(mixed: Any) -> None:
    mixed.celery_worker()
    begun = time.time()
    soon = mixed.task("now").apply_async(countdown=1)
    eta = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=2)
    later = mixed.task("now").apply_async(eta=eta)
    assert soon.get(timeout=WAIT) >= begun + 1
    assert later.get(timeout=WAIT) >= eta.timestamp()


def test_expires(mixed: Any) -> None:
    past = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=5)
    result = mixed.task("log").apply_async(("late",), expires=past)
    mixed.celery_worker()
    with pytest.raises(TaskRevokedError):
        result.get(timeout=WAIT)
    assert mixed.written() == []


def test_priorities(mixed: Any) -> None:
    for priority in (9, 6, 3, 0, 9, 6, 3, 0):
        mixed.task("log").apply_async((str(priority),), priority=priority)
    # A stock worker claims ahead across its slots, so let one process take one at a time.
    mixed.celery_worker("-P", "solo", "--prefetch-multiplier", "1", "-O", "fair")
    assert mixed.wait_written(8)[2:] == ["3", "3", "6", "6", "9", "9"]


def test_retries(mixed: Any) -> None:
    mixed.celery_worker("-P", "solo")
    assert mixed.task("try_until").delay(2).get(timeout=WAIT) == 2
    assert mixed.written() == ["try 0", "try 1", "try 2"]


def test_the_request_is_whole(mixed: Any) -> None:
    mixed.celery_worker()
    seen = mixed.task("describe").apply_async(task_id="my-own-id").get(timeout=WAIT)
    assert (seen["id"], seen["root_id"], seen["task"]) == (
        "my-own-id",
        "my-own-id",
        "sample.describe",
    )
    assert seen["routing_key"] == "celery"
    assert "@" in seen["origin"]


def test_time_limits_are_the_callers(mixed: Any) -> None:
    mixed.celery_worker()
    assert (
        mixed.task("add").apply_async((1, 2), time_limit=20, soft_time_limit=10).get(timeout=WAIT)
        == 3
    )


def test_ignored_results(mixed: Any) -> None:
    mixed.celery_worker("-P", "solo")
    ignored = mixed.task("log").apply_async(("unwanted",), ignore_result=True)
    assert mixed.task("add").delay(1, 1).get(timeout=WAIT) == 2
    assert mixed.written() == ["unwanted"]
    assert ignored.state == "PENDING"


def test_a_result_is_forgotten(mixed: Any) -> None:
    mixed.celery_worker()
    result = mixed.task("add").delay(1, 1)
    assert result.get(timeout=WAIT) == 2
    result.forget()
    assert result.state == "PENDING"
