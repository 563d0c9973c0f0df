"""Calls that run here: what a retry keeps of its call, and how a task ends that refuses it."""

from typing import Any

import pytest

from taskcore import AsyncResult, Taskcore, chain, chord, group
from taskcore.canvas import StampingVisitor
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


class Stamps(StampingVisitor):
    """Stamps tasks and what they link to."""

    def on_signature(self, sig: Any, **headers: Any) -> dict[str, Any]:
        return {"of": ["all"]}

    def on_callback(self, callback: Any, **headers: Any) -> dict[str, Any]:
        return {"linked": 1}


def test_stamps_are_seen_as_on_a_worker(app: Taskcore) -> None:
    seen: list[Any] = []

    @app.task(bind=True, max_retries=1, default_retry_delay=0)
    def stamped(self: Any, *args: Any, again: bool = False) -> None:
        names = self.request.stamped_headers
        seen.append((names and sorted(names), self.request.stamps))
        if again and self.request.retries < 1:
            raise self.retry()

    def run(sig: Any, **options: Any) -> list[Any]:
        seen.clear()
        sig.apply(**options)
        return list(seen)

    customer: Any = (["customer"], {"customer": "acme"})
    one, two = stamped.s(), stamped.s()
    for sig, times in (
        (stamped.s(), 1),
        (stamped.s(again=True), 2),
        (chain(one, two), 2),
        (group(one, two), 2),
    ):
        sig.stamp(customer="acme")
        assert run(sig) == [customer] * times
    header = chord([stamped.s(), stamped.s()], stamped.s())
    header.stamp(customer="acme")
    assert run(header) == [customer, customer, (None, None)]
    assert run(stamped.s(), stamped_headers=["customer"], customer="acme") == [customer]
    linked = stamped.s()
    linked.link(stamped.s())
    linked.stamp_links(Stamps())
    after = (["linked", "of"], {"linked": 1, "of": ["all"]})
    assert run(linked) == [(None, None), after]
    linked = stamped.s()
    linked.link(stamped.s())
    linked.stamp(Stamps())
    assert run(linked) == [(["of"], {"of": ["all"]}), after]
