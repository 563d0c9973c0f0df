"""`memory://`: one process, its worker in a thread of its own; what a user's tests would do."""

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from support.worker import working
from taskcore.exceptions import TaskRevokedError
from taskcore.testing import memory_app

WAIT = 30


@pytest.fixture
def site() -> Iterator[SimpleNamespace]:
    with memory_app() as app:
        add = app.task(lambda x, y: x + y, name="add")

        def fail(message: str) -> None:
            raise ValueError(message)

        def again(self: Any, times: int) -> int:
            if self.request.retries < times:
                raise self.retry(countdown=0)
            return int(self.request.retries)

        yield SimpleNamespace(
            app=app,
            add=add,
            fail=app.task(fail, name="fail"),
            again=app.task(again, name="again", bind=True),
        )


def test_values_and_exceptions(site: SimpleNamespace) -> None:
    with working(site.app):
        assert site.add.delay(1, 2).get(timeout=WAIT) == 3
        with pytest.raises(ValueError, match="on purpose"):
            site.fail.delay("on purpose").get(timeout=WAIT)


def test_bulk_in_order(site: SimpleNamespace) -> None:
    results = site.add.apply_many([(n, n) for n in range(1000)])
    with working(site.app):
        assert [result.get(timeout=WAIT) for result in results] == [2 * n for n in range(1000)]


def test_countdown_retry_and_expiry(site: SimpleNamespace) -> None:
    expired = site.add.apply_async((1, 2), expires=-1)
    with working(site.app):
        assert site.add.apply_async((1, 2), countdown=0.2).get(timeout=WAIT) == 3
        assert site.again.delay(2).get(timeout=WAIT) == 2
        with pytest.raises(TaskRevokedError):
            expired.get(timeout=WAIT)


def test_what_was_published_before_a_stop_is_there_after_it(site: SimpleNamespace) -> None:
    gate = threading.Event()
    begun = threading.Event()

    def hold() -> str:
        begun.set()
        assert gate.wait(WAIT)
        return "held"

    held = site.app.task(hold, name="hold")
    with working(site.app):
        first = held.delay()
        assert begun.wait(WAIT)
        gate.set()
    assert first.get(timeout=WAIT) == "held"
    later = site.add.delay(1, 1)
    with working(site.app):
        assert later.get(timeout=WAIT) == 2
