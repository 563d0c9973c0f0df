"""What follows a task travels with its outcome: callbacks, the rest of a chain, error callbacks, retries."""

from typing import Any

import pytest

from support.site import Site
from support.wait import until
from taskcore.exceptions import EncodeError
from taskcore.result import AsyncResult

WAIT = 30
POOLS = pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])


@POOLS
def test_callbacks_chains_and_retries_follow_in_every_pool(sqlite_site: Site, pool: str) -> None:
    sqlite_site.worker("-P", pool, "-c", "1")
    add, log = sqlite_site.task("add"), sqlite_site.task("log")
    steps = [add.s(n).set(task_id=f"step-{n}") for n in (30, 20)]
    result = add.apply_async((1, 2), link=[log.si("one"), log.si("two")], chain=steps)
    assert result.get(timeout=WAIT) == 3
    last: AsyncResult[int] = AsyncResult("step-30", app=sqlite_site.app)
    assert last.get(timeout=WAIT) == 53
    assert len(result.children or []) == 2
    until(lambda: set(sqlite_site.written()) == {"one", "two"}, "both callbacks")
    assert sqlite_site.task("try_until").delay(3).get(timeout=WAIT) == 3
    failed = sqlite_site.task("fail").apply_async(("x",), link_error=log.si("wrong"))
    failed.get(timeout=WAIT, propagate=False)
    until(lambda: "wrong" in sqlite_site.written(), "the error callback")
    until(lambda: sqlite_site.queue()["in_flight"] == 0, "everything settled")


@POOLS
def test_nothing_follows_a_success_that_cannot_be_encoded(sqlite_site: Site, pool: str) -> None:
    sqlite_site.worker("-P", pool, "-c", "1")
    log: Any = sqlite_site.task("log")
    result = sqlite_site.task("unencodable").apply_async(
        link=log.si("succeeded"), link_error=log.si("failed")
    )
    with pytest.raises(EncodeError):
        result.get(timeout=WAIT)
    until(lambda: sqlite_site.written() == ["failed"], "the error callback")
    assert sqlite_site.task("add").delay(1, 1).get(timeout=WAIT) == 2
    assert sqlite_site.written() == ["failed"]


@POOLS
def test_a_retry_outlives_ignore(sqlite_site: Site, pool: str) -> None:
    sqlite_site.worker("-P", pool, "-c", "1")
    result = sqlite_site.task("retry_and_ignore").delay()
    assert result.get(timeout=WAIT) is None
    assert sqlite_site.written() == ["ignored try 0", "ignored try 1"]


def test_a_call_that_has_ended_cannot_be_retried(sqlite_site: Site) -> None:
    sqlite_site.worker("-P", "solo")
    ended = sqlite_site.task("leave_context").apply_async((), time_limit=9)
    assert ended.get(timeout=WAIT) == [[], [9, None]]
    said = sqlite_site.task("retry_in_left_context").delay().get(timeout=WAIT)
    assert said.startswith(f"RuntimeError: task `sample.leave_context` [{ended.id}] has ended: ")
