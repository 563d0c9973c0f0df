"""What a caller gets back: values, exceptions, states."""

import datetime as dt
import uuid
from decimal import Decimal
from typing import Any

import pytest

from support.site import Site
from taskcore.exceptions import TaskRevokedError
from taskcore.exceptions import TimeoutError as NotReady
from taskcore.result import AsyncResult

WAIT = 30


def test_a_value_comes_back(site: Site) -> None:
    site.worker()
    assert site.task("add").delay(2, 3).get(timeout=WAIT) == 5
    assert site.task("add").delay(2, y=40).get(timeout=WAIT) == 42
    assert site.task("add").apply_async((2,), {"y": 5}).get(timeout=WAIT) == 7


@pytest.mark.parametrize("serializer", ["json", "msgpack"])
@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        -(2**53),
        1.5,
        "naïve ☃ \U0001f40d",
        [1, [2, [3]], {"deep": {"er": None}}],
        dt.datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=dt.UTC),
        dt.date(2026, 1, 2),
        dt.time(3, 4, 5),
        Decimal("1.10"),
        uuid.UUID("12345678-1234-5678-1234-567812345678"),
        b"\x00\xff bytes",
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_typed_argument_arrives_and_returns(
    sqlite_site: Site, serializer: str, value: Any
) -> None:
    sqlite_site.worker("-P", "solo")
    result = sqlite_site.task("echo").apply_async((value,), serializer=serializer)
    assert result.get(timeout=WAIT) == value


def test_many_are_published_at_once_and_answer_in_order(site: Site) -> None:
    results = site.task("add").apply_many([(n, n) for n in range(1000)])
    site.worker()
    assert [result.get(timeout=WAIT) for result in results] == [2 * n for n in range(1000)]


def test_many_different_tasks_are_published_at_once(site: Site) -> None:
    add, log = site.task("add"), site.task("log")
    results = site.app.send_many([add.s(1, 2), log.s("one"), add.s(3, y=4)])
    site.worker()
    assert [result.get(timeout=WAIT) for result in results] == [3, "one", 7]


def test_a_task_is_called_by_its_name(site: Site) -> None:
    site.worker()
    assert site.app.send_task("sample.add", args=(1, 2)).get(timeout=WAIT) == 3


def test_an_exception_is_raised_at_the_caller(site: Site) -> None:
    site.worker()
    result = site.task("fail").delay("no such luck")
    with pytest.raises(ValueError, match="no such luck"):
        result.get(timeout=WAIT)
    assert result.failed() and not result.successful() and result.ready()
    assert result.state == "FAILURE"
    assert "in fail" in result.traceback and "ValueError: no such luck" in result.traceback
    assert isinstance(result.get(propagate=False), ValueError)


def test_an_exception_of_the_users_own_keeps_its_class_and_arguments(site: Site) -> None:
    import sample

    site.worker()
    with pytest.raises(sample.Refused) as caught:
        site.task("refuse").delay(403, "closed").get(timeout=WAIT)
    assert (caught.value.code, caught.value.why) == (403, "closed")


def test_an_exception_that_cannot_be_made_again_still_says_what_it_was(site: Site) -> None:
    site.worker()
    result = site.task("fail_unpicklable").delay()
    with pytest.raises(Exception, match="this and that"):
        result.get(timeout=WAIT)
    assert "Unpicklable" in result.traceback


def test_a_result_that_cannot_be_encoded_fails_that_task_only(site: Site) -> None:
    site.worker("-c", "1")
    result = site.task("unencodable").delay()
    with pytest.raises(Exception, match="object"):
        result.get(timeout=WAIT)
    assert result.state == "FAILURE"
    assert site.task("add").delay(1, 1).get(timeout=WAIT) == 2


def test_a_task_is_retried_until_it_is_content(site: Site) -> None:
    site.worker("-c", "1")
    assert site.task("try_until").delay(3).get(timeout=WAIT) == 3
    assert site.written() == ["try 0", "try 1", "try 2", "try 3"]


def test_retries_end_with_the_cause(site: Site) -> None:
    site.worker()
    with pytest.raises(KeyError, match="the cause"):
        site.task("give_up").delay().get(timeout=WAIT)


def test_a_task_is_retried_for_its_exceptions(site: Site) -> None:
    site.worker("-c", "1")
    assert site.task("stubborn").delay().get(timeout=WAIT) == "at last"
    assert site.written() == ["stubborn 0", "stubborn 1", "stubborn 2"]


def test_the_request_is_seen_by_the_task(site: Site) -> None:
    site.worker("-n", "here@%h")
    result = site.task("add").delay(1, 1)
    result = site.task("describe").apply_async((), {}, queue="taskcore")
    seen = result.get(timeout=WAIT)
    assert seen["id"] == seen["root_id"] == result.id
    assert seen["task"] == "sample.describe"
    assert (seen["args"], seen["kwargs"], seen["retries"]) == ([], {}, 0)
    assert seen["routing_key"] == "taskcore"


def test_a_task_publishes_another(site: Site) -> None:
    site.worker()
    inner = site.task("nested").delay(4).get(timeout=WAIT)
    assert AsyncResult(inner, app=site.app).get(timeout=WAIT) == 5


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_a_coroutine_is_a_task(sqlite_site: Site, pool: str) -> None:
    sqlite_site.worker("-P", pool)
    results = sqlite_site.task("gather").apply_many([(n,) for n in range(5)])
    assert [result.get(timeout=WAIT) for result in results] == [list(range(n)) for n in range(5)]


def test_an_unwanted_result_is_not_stored(site: Site) -> None:
    site.worker("-c", "1")
    unwanted = site.task("log").apply_async(("once",), ignore_result=True)
    quiet = site.task("quiet").delay("twice")
    assert site.task("add").delay(1, 1).get(timeout=WAIT) == 2
    assert site.written() == ["once", "twice"]
    assert unwanted.state == quiet.state == "PENDING"


def test_ignore_leaves_no_result(site: Site) -> None:
    site.worker("-c", "1")
    result = site.task("ignore").delay()
    assert site.task("add").delay(1, 1).get(timeout=WAIT) == 2
    assert site.written() == ["ignored"]
    assert result.state == "PENDING"


def test_a_result_is_forgotten(site: Site) -> None:
    site.worker()
    result = site.task("add").delay(1, 1)
    assert result.get(timeout=WAIT) == 2
    result.forget()
    assert AsyncResult(result.id, app=site.app).state == "PENDING"


def test_waiting_ends_with_its_timeout(site: Site) -> None:
    result = site.task("add").delay(1, 1)
    with pytest.raises(NotReady):
        result.get(timeout=0.05)
    assert not result.ready() and result.state == "PENDING"


def test_the_begin_of_a_tracked_task_is_seen(site: Site) -> None:
    site.worker()
    gate = site.gate()
    result = site.task("hold_tracked").delay(str(gate))
    site.wait_written(1)
    from support.wait import until

    until(lambda: result.state == "STARTED", "state STARTED")
    gate.touch()
    assert result.get(timeout=WAIT) == "held"


def test_a_result_is_read_by_another_process_by_its_id(site: Site) -> None:
    site.worker()
    result = site.task("add").delay(20, 22)
    assert site.client().AsyncResult(result.id).get(timeout=WAIT) == 42


def test_an_expired_task_is_not_run(site: Site) -> None:
    past = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1)
    result = site.task("log").apply_async(("late",), expires=past)
    site.worker("-c", "1")
    with pytest.raises(TaskRevokedError):
        result.get(timeout=WAIT)
    assert result.state == "REVOKED"
    assert site.written() == []


def test_calling_a_task_runs_it_here(site: Site) -> None:
    assert site.task("add")(1, 2) == 3
    with pytest.raises(ValueError, match="at once"):
        site.task("fail")("at once")
