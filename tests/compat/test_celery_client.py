"""A stock Celery client, a taskcore worker."""

import datetime as dt
import time
import uuid
from decimal import Decimal
from types import ModuleType
from typing import Any

import pytest

WAIT = 30


def test_values(mixed: Any, stock: ModuleType) -> None:
    mixed.taskcore_worker()
    assert stock.add.delay(2, 3).get(timeout=WAIT) == 5
    assert stock.add.delay(2, y=4).get(timeout=WAIT) == 6
    typed = {
        "at": dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC),
        "day": dt.date(2026, 1, 2),
        "id": uuid.UUID(int=7),
        "price": Decimal("1.10"),
        "raw": b"\x00\xff",
        "text": "☃",
        "deep": [None, True, [1.5, {"x": []}]],
    }
    assert stock.echo.delay(typed).get(timeout=WAIT) == typed


@pytest.mark.parametrize("compression", ["zlib", "bzip2", "zstd"])
def test_compressed_bodies(mixed: Any, stock: ModuleType, compression: str) -> None:
    mixed.taskcore_worker()
    assert (
        stock.echo.apply_async(("x" * 10_000,), compression=compression).get(timeout=WAIT)
        == "x" * 10_000
    )


def test_exceptions(mixed: Any, stock: ModuleType) -> None:
    mixed.taskcore_worker()
    result = stock.fail.delay("on purpose")
    with pytest.raises(ValueError, match="on purpose"):
        result.get(timeout=WAIT)
    assert result.state == "FAILURE" and "in fail" in result.traceback


def test_eta_and_countdown(mixed: Any, stock: ModuleType) -> None:
    mixed.taskcore_worker()
    begun = time.time()
    soon = stock.now.apply_async(countdown=1)
    eta = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=3)
    later = stock.now.apply_async(eta=eta)
    assert soon.get(timeout=WAIT) >= begun + 1
    assert later.get(timeout=WAIT) >= eta.timestamp()


def test_an_eta_far_ahead_goes_to_the_broker_and_does_not_fill_the_worker(
    mixed: Any, stock: ModuleType
) -> None:
    mixed.taskcore_worker()
    stock.log.apply_async(("tomorrow",), countdown=86_400)
    assert stock.add.delay(1, 1).get(timeout=WAIT) == 2
    mixed.wait_queue("celery", scheduled=1, depth=0, in_flight=0)


def test_expires(mixed: Any, stock: ModuleType) -> None:
    from celery.exceptions import TaskRevokedError

    past = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=5)
    result = stock.log.apply_async(("late",), expires=past)
    mixed.taskcore_worker()
    with pytest.raises(TaskRevokedError):
        result.get(timeout=WAIT)
    assert mixed.written() == []


def test_priorities(mixed: Any, stock: ModuleType) -> None:
    for priority in (9, 6, 3, 0, 9, 6, 3, 0):
        stock.log.apply_async((str(priority),), priority=priority)
    mixed.taskcore_worker("-c", "1", "--prefetch-multiplier", "1")
    assert mixed.wait_written(8) == ["0", "0", "3", "3", "6", "6", "9", "9"]


def test_retries(mixed: Any, stock: ModuleType) -> None:
    mixed.taskcore_worker("-c", "1")
    assert stock.try_until.delay(2).get(timeout=WAIT) == 2
    assert mixed.written() == ["try 0", "try 1", "try 2"]


def test_a_retry_is_published_so_that_a_stock_worker_can_take_it(
    mixed: Any, stock: ModuleType
) -> None:
    """The message that a taskcore worker publishes for a retry is Celery's again, as the one that
    it came from."""
    import json

    import redis

    worker = mixed.taskcore_worker("-c", "1")
    stock.app.send_task("sample.try_until", (1,), countdown=0)
    mixed.wait_written(2)
    worker.stop()
    stock.app.send_task("sample.nobody")
    with redis.Redis.from_url(mixed.broker) as client:
        raw = client.lindex("celery", 0)
    assert json.loads(raw)["headers"]["task"] == "sample.nobody"


def test_the_request_is_whole(mixed: Any, stock: ModuleType) -> None:
    mixed.taskcore_worker()
    result = stock.describe.apply_async(task_id="my-own-id")
    seen = result.get(timeout=WAIT)
    assert (seen["id"], seen["root_id"], seen["task"]) == (
        "my-own-id",
        "my-own-id",
        "sample.describe",
    )
    assert seen["routing_key"] == "celery"


def test_ignored_results(mixed: Any, stock: ModuleType) -> None:
    mixed.taskcore_worker("-c", "1")
    ignored = stock.log.apply_async(("unwanted",), ignore_result=True)
    assert stock.add.delay(1, 1).get(timeout=WAIT) == 2
    assert mixed.written() == ["unwanted"]
    assert ignored.state == "PENDING"


def test_an_unknown_task_is_parked(mixed: Any, stock: ModuleType) -> None:
    mixed.taskcore_worker()
    stock.app.send_task("sample.nobody")
    mixed.wait_queue("celery", dead=1, depth=0)
    assert stock.add.delay(1, 1).get(timeout=WAIT) == 2


def test_a_group_and_its_results(mixed: Any, stock: ModuleType) -> None:
    """The members are ordinary messages; joining them is the client's work."""
    from celery import group

    mixed.taskcore_worker()
    assert group(stock.add.s(n, n) for n in range(20))().get(timeout=WAIT) == [
        2 * n for n in range(20)
    ]


def test_a_chain_of_the_client_is_followed_by_the_worker(mixed: Any, stock: ModuleType) -> None:
    from celery import chain

    mixed.taskcore_worker()
    assert chain(stock.add.s(1, 1), stock.add.s(10), stock.add.s(100))().get(timeout=WAIT) == 112


@pytest.mark.parametrize("kind", ["chain", "group of chains"])
def test_a_chain_of_the_client_that_ends_in_a_group(
    mixed: Any, stock: ModuleType, kind: str
) -> None:
    from celery import chain, group

    mixed.taskcore_worker()
    made = chain(stock.add.s(1, 1), group(stock.add.s(2), stock.add.s(3)))
    result = made() if kind == "chain" else group(made, stock.add.s(1, 1))()
    expected = [4, 5]
    assert result.get(timeout=WAIT) == (expected if kind == "chain" else [expected, 2])


def test_callbacks_and_errbacks(mixed: Any, stock: ModuleType) -> None:
    mixed.taskcore_worker("-c", "1")
    stock.echo.apply_async(("called back",), link=stock.log.s())
    assert mixed.wait_written(1) == ["called back"]


def test_both_kinds_of_workers_share_one_queue(mixed: Any, stock: ModuleType) -> None:
    mixed.taskcore_worker()
    mixed.celery_worker()
    results = [stock.add.delay(n, 0) for n in range(300)]
    assert [result.get(timeout=WAIT) for result in results] == list(range(300))
