"""Calls that run here: what a retry keeps of its call, and how a task ends that refuses it."""

from typing import Any

import pytest

from taskcore import AsyncResult, Taskcore
from taskcore.exceptions import Ignore, Reject


@pytest.fixture
def again(app: Taskcore) -> Any:
    """A task that succeeds, or fails, at its first retry."""

    @app.task(bind=True, max_retries=1, default_retry_delay=0)
    def again(self: Any, seen: list[Any], fail: bool = False) -> str:
        request = self.request
        seen.append((request.headers, request.root_id, request.shadow, request.ignore_result))
        if request.retries < 1:
            raise self.retry()
        if fail:
            raise KeyError("k")
        return "done"

    return again


def test_a_retry_keeps_what_follows_the_call(app: Taskcore, again: Any) -> None:
    followed: list[Any] = []
    link = app.task(lambda *args: followed.append(args), name="follow").si("linked")
    error = app.task(lambda *args: followed.append(args), name="error").si("failed")
    chain = [link.clone().set(immutable=True)]
    again.apply(([],), link=link, link_error=error, chain=chain)
    assert followed == [("linked",), ("linked",)]
    again.apply(([], True), link=link, link_error=error, throw=False)
    assert followed[2:] == [("failed",)]


def test_a_retry_keeps_what_the_call_says_of_itself(again: Any) -> None:
    seen: list[Any] = []
    options: dict[str, Any] = {"headers": {"tenant": 7}, "root_id": "r", "shadow": "s"}
    again.apply((seen,), ignore_result=True, **options)
    assert seen == [({"tenant": 7}, "r", "s", True)] * 2


@pytest.mark.parametrize("throw", [True, False])
@pytest.mark.parametrize(
    ("exc", "state"),
    [(Ignore("no"), "IGNORED"), (Reject("no"), "REJECTED"), (Reject("no", True), "REJECTED")],
    ids=["ignore", "reject", "requeue"],
)
def test_a_refused_call_has_ended_without_a_value(
    app: Taskcore, exc: Exception, state: str, throw: bool
) -> None:
    @app.task
    def refuses() -> None:
        raise exc

    result = refuses.apply(throw=throw)
    assert (result.state, result.ready(), result.get()) == (state, True, None)
    assert not result.successful() and not result.failed()


def test_the_children_of_a_request_are_results(app: Taskcore) -> None:
    @app.task
    def child() -> None: ...

    @app.task(bind=True)
    def parent(self: Any) -> Any:
        published = child.delay()
        return published, self.request.children

    published, children = parent.apply().get()
    assert [type(result) for result in children] == [AsyncResult]
    assert children == [published] and children[0].app is app
