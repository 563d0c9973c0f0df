"""Results of many tasks: sets, and groups under an id."""

import asyncio
import copy
import itertools
import pickle
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskcore.context import reset_request, set_request
from taskcore.result import (
    AsyncResult,
    EagerResult,
    GroupResult,
    ResultBase,
    ResultSet,
    allow_join_result,
    denied_join_result,
    result_from_tuple,
)
from taskcore.results import exception_codec


def done(app: Any, *ids: str) -> None:
    for one in ids:
        app.backend.put(one, "SUCCESS", f"value of {one}")


def fail(app: Any, task_id: str, exc: BaseException, state: str = "FAILURE") -> None:
    app.backend.put(task_id, state, exception_codec.to_document(exc))


# Members


def test_members_are_added_and_taken_out(app: Any) -> None:
    results = ResultSet([], app)
    results.add("a")
    results.add(AsyncResult("b", app=app))
    results.add(AsyncResult("a", app=app))
    assert results.ids == ["a", "b"] and "a" in results and AsyncResult("b") in results
    results.update(["b", AsyncResult("c", app=app), "d", "d"])
    assert results.ids == ["a", "b", "c", "d"]
    results.remove("b")
    results.remove(AsyncResult("a"))
    results.discard("nobody")
    results.discard(AsyncResult("d"))
    assert results.ids == ["c"]
    with pytest.raises(KeyError, match="nobody"):
        results.remove("nobody")
    results.clear()
    assert len(results) == 0 and results.ready() and results.get() == []


def test_the_list_of_results_is_that_of_the_set(app: Any) -> None:
    results = ResultSet(["a"], app)
    results.results.append(AsyncResult("b", app=app))
    assert results.ids == ["a", "b"] and results[0] is results.results[0]
    copied = copy.copy(results)
    copied.clear()
    assert len(results) == 2 and copied.app is app


def test_a_set_survives_pickling(app: Any) -> None:
    results = ResultSet(["a", GroupResult("g", ["b", EagerResult("e", 1, "SUCCESS")])], app)
    loaded = pickle.loads(pickle.dumps(results))
    assert loaded == results and loaded.ids == ["a", "g"] and isinstance(loaded[1], GroupResult)


def test_the_app_is_that_of_the_first_result(app: Any) -> None:
    from taskcore import Taskcore

    other = Taskcore("other", broker="memory://", set_as_current=False)
    assert ResultSet([AsyncResult("a", app=other)]).app is other
    assert ResultSet([AsyncResult("a", app=other)], app).app is app
    assert ResultSet(["a"]).app is app


# Asking


def test_only_what_is_not_known_is_asked_for(app: Any) -> None:
    results = ResultSet([str(n) for n in range(1200)], app)
    done(app, *[str(n) for n in range(1000)])
    asked = app.backend.asked
    assert results.completed_count() == 1000 and [len(ids) for ids in asked] == [500, 500, 200]
    asked.clear()
    assert results.ready_count() == 1000 and not results.ready() and results.waiting()
    assert [len(ids) for ids in asked] == [200, 200, 200]
    asked.clear()
    fail(app, "1000", KeyError("k"))
    assert results.failed() and [len(ids) for ids in asked] == [200]
    done(app, *[str(n) for n in range(1001, 1200)])
    asked.clear()
    assert results.ready() and not results.successful() and results.completed_count() == 1199
    assert [len(ids) for ids in asked] == [199], "a finished set costs nothing more"


def test_each_member_is_asked_of_its_own_store(app: Any) -> None:
    from taskcore import Taskcore

    other = Taskcore("other", broker="memory://", backend="memory://", set_as_current=False)
    done(app, "a")
    done(other, "b")
    results = ResultSet(
        ["a", AsyncResult("b", app=other), AsyncResult("b", backend=other.backend)], app
    )
    assert results.completed_count() == 3 and results.get() == ["value of a", *["value of b"] * 2]


def test_a_set_among_the_members_counts_as_one(app: Any) -> None:
    results = ResultSet(["a", GroupResult("g", ["b", "c"], app=app), GroupResult("e", [])], app)
    done(app, "a", "b")
    assert (results.completed_count(), results.ready_count(), results.ready()) == (2, 2, False)
    fail(app, "c", ValueError("x"))
    assert (results.completed_count(), results.ready_count()) == (2, 3)
    assert results.ready() and results.failed() and not results.successful()
    done(app, "c")
    again = ResultSet(["a", GroupResult("g", ["b", "c"], app=app)], app)
    assert again.get() == ["value of a", ["value of b", "value of c"]]


def test_what_has_failed_is_thrown(app: Any) -> None:
    results = ResultSet(["a", "b"], app)
    seen: list[Any] = []
    done(app, "a")
    results.maybe_throw(callback=lambda *told: seen.append(told))
    assert seen == [("a", "value of a"), ("b", None)]
    fail(app, "b", ValueError("x"))
    with pytest.raises(ValueError, match="x"):
        results.maybe_reraise()
    results.maybe_throw(propagate=False)


# Waiting


def test_waiting_is_by_push_and_in_batches(app: Any) -> None:
    results = ResultSet([str(n) for n in range(700)], app)
    done(app, *[str(n) for n in range(0, 700, 2)])

    def rest() -> None:
        done(app, *[str(n) for n in range(1, 700, 2)])

    app.backend.asked.clear()
    values = results.get(timeout=30, interval=0.001, on_interval=rest)
    assert values == [f"value of {n}" for n in range(700)]
    assert [len(ids) for ids in app.backend.asked] == [500, 200] and len(app.backend.watched) == 350


def test_values_in_the_order_in_which_they_come(app: Any) -> None:
    results = ResultSet(["a", "b", "c"], app)
    done(app, "c")
    order = iter("ba")
    seen: list[Any] = []
    got = results.join_native(
        timeout=30,
        interval=0.001,
        callback=lambda *told: seen.append(told),
        on_interval=lambda: done(app, next(order)),
    )
    assert got == [] and seen == [(one, f"value of {one}") for one in "cba"]


def test_documents_are_told_as_they_change(app: Any) -> None:
    results = ResultSet(["a", "b"], app)
    app.backend.put("a", "PROGRESS", 1)
    steps = iter(
        [lambda: app.backend.put("a", "PROGRESS", 2), lambda: None, lambda: done(app, "a", "b")]
    )
    seen: list[Any] = []
    results.get(
        timeout=30,
        interval=0.001,
        on_interval=lambda: next(steps)(),
        on_message=lambda document: seen.append((document["task_id"], document["result"])),
    )
    assert seen == [("a", 1), ("a", 2), ("a", "value of a"), ("b", "value of b")]


def test_a_failure_is_raised_before_the_others_have_ended(app: Any) -> None:
    results = ResultSet(["a", "b", "c"], app)
    fail(app, "c", ValueError("x"))
    with pytest.raises(ValueError, match="x"):
        results.get(timeout=30)
    assert not app.backend.watching
    done(app, "a", "b")
    found = results.join(propagate=False)
    assert found[:2] == ["value of a", "value of b"] and isinstance(found[2], ValueError)


def test_the_time_is_for_all_together(app: Any) -> None:
    results = ResultSet([str(n) for n in range(9)], app)
    done(app, "0", "1")
    with pytest.raises(results[0].TimeoutError, match=r"`7` of the tasks .*`2`, `3`, `4`, \.\.\."):
        results.get(timeout=0.01)
    assert not app.backend.watching, "nothing is left behind"
    with pytest.raises(TypeError, match="did you mean `interval`"):
        results.get(intervall=1)


def test_each_as_soon_as_it_is_there(app: Any) -> None:
    results = ResultSet(["a", GroupResult("g", ["b"], app=app)], app)
    done(app, "a")
    native = results.iter_native(timeout=30)
    assert next(native) == ("a", app.backend.documents["a"])
    fail(app, "b", ValueError("x"))
    task_id, document = next(native)
    assert task_id == "b" and isinstance(document["result"], ValueError)
    assert list(native) == []
    assert [one.id for one in results.iter_ready()] == ["a", "b"]


def test_an_ignored_member_is_not_waited_for(app: Any) -> None:
    unwanted = AsyncResult("i", app=app)
    unwanted.ignored = True
    done(app, "a")
    assert ResultSet(["a", unwanted], app).get() == ["value of a", None]


def test_when_all_have_ended(app: Any) -> None:
    results = ResultSet(["a", "b"], app)
    seen: list[Any] = []
    results.then(seen.append)
    done(app, "a")
    assert seen == []
    done(app, "b")
    assert seen == [results]
    results.then(seen.append)
    results.on_ready.then(seen.append)
    assert seen == [results] * 3


def test_where_waiting_is_refused(app: Any, core: Any) -> None:
    done(app, "a")
    results = GroupResult("g", ["a"], app=app)

    async def gather() -> Any:
        return await results

    async def each() -> Any:
        return [one.id async for one in results]

    waits = (
        lambda: results.get(),
        lambda: results.join_native(),
        lambda: asyncio.run(gather()),
        lambda: asyncio.run(each()),
    )
    with denied_join_result():
        for wait in waits:
            with pytest.raises(RuntimeError, match="within a task"):
                wait()
        with allow_join_result():
            assert results.get() == ["value of a"]
    token = set_request(core.Request(id="t", task="t"))
    try:
        with pytest.raises(RuntimeError, match="within a task"):
            results.get()
        with allow_join_result():
            assert results.get() == ["value of a"]
            with denied_join_result(), pytest.raises(RuntimeError, match="within a task"):
                results.get()
    finally:
        reset_request(token)
    assert asyncio.run(gather()) == ["value of a"] and asyncio.run(each()) == ["a"]


# In an event loop


def test_a_set_is_awaited(app: Any) -> None:
    results = ResultSet(["a", GroupResult("g", ["b"], app=app), "c"], app)
    done(app, "c")

    async def main() -> Any:
        order: list[str] = []
        values: list[Any] = []

        async def each() -> None:
            async for one in results:
                order.append(one.id)

        async def gather() -> None:
            values.extend(await results)

        waiting = asyncio.gather(gather(), each())
        await asyncio.sleep(0)
        done(app, "b", "a")
        await waiting
        return values, order

    values, order = asyncio.run(asyncio.wait_for(main(), 30))
    assert values == ["value of a", ["value of b"], "value of c"] and order == ["c", "b", "a"]


def test_an_awaited_set_raises_its_first_failure(app: Any) -> None:
    results = ResultSet(["a", "b"], app)

    async def main() -> None:
        waiting = asyncio.ensure_future(gather())
        await asyncio.sleep(0)
        fail(app, "b", ValueError("x"))
        await waiting

    async def gather() -> Any:
        return await results

    with pytest.raises(ValueError, match="x"):
        asyncio.run(asyncio.wait_for(main(), 30))
    assert not app.backend.watching


@pytest.mark.parametrize("kind", ["await", "async for"])
def test_a_cancelled_wait_leaves_nothing(app: Any, kind: str) -> None:
    results = ResultSet([str(n) for n in range(50)], app)

    async def wait() -> None:
        if kind == "await":
            await results
        async for _ in results:
            pass

    async def main() -> None:
        waiting = asyncio.ensure_future(wait())
        await asyncio.sleep(0)
        assert len(app.backend.watching) == 50
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert not app.backend.watching
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wait(), 0.001)
        assert not app.backend.watching

    asyncio.run(main())


# Groups


def test_a_group_has_an_id_and_a_parent(app: Any) -> None:
    group = GroupResult("g", ["a", "b"], AsyncResult("p"), app=app)
    assert isinstance(group, ResultBase) and isinstance(group, ResultSet)
    assert str(group) == group.id == "g" and group == "g" and hash(group) == hash("g")
    assert repr(group) == "<GroupResult: g [a, b]>"
    assert group.children == [AsyncResult("a"), AsyncResult("b")] == group.results
    assert group == GroupResult("g", ["a", "b"], AsyncResult("p"))
    for other in (
        GroupResult("h", ["a", "b"], AsyncResult("p")),
        GroupResult("g", ["a"], AsyncResult("p")),
        GroupResult("g", ["a", "b"]),
        1,
    ):
        assert group != other
    assert group and GroupResult("g") and GroupResult(None, ["a"]) and not GroupResult()


TUPLES = [
    (("a", None), None),
    (("a", (("p", (("q", None), None)), None)), None),
    (("g", None), []),
    (("g", (("p", None), None)), [(("a", None), None), (("b", (("g", None), None)), None)]),
    (("c", (("g", (("p", None), None)), [(("a", None), None)])), None),
    (("g", None), [(("h", None), [(("a", None), None)]), (("b", None), None)]),
]


@pytest.mark.parametrize("stored", TUPLES, ids=repr)
def test_tuples_there_and_back(app: Any, stored: Any) -> None:
    result = result_from_tuple(stored, app)
    assert result.as_tuple() == stored and result.app is app
    assert pickle.loads(pickle.dumps(result)).as_tuple() == stored
    assert result_from_tuple(result) is result


@pytest.mark.parametrize("how", ["get", "await"])
def test_a_failure_before_a_group_ends_the_wait_for_it(app: Any, how: str) -> None:
    first = AsyncResult("first", app=app)
    group = GroupResult("g", ["a", "b"], AsyncResult("before", app=app, parent=first), app=app)

    async def gather() -> Any:
        return await group

    def wait() -> Any:
        return group.get(timeout=30) if how == "get" else asyncio.run(gather())

    fail(app, "first", ValueError("x"), "REVOKED")
    with pytest.raises(ValueError, match="x"):
        wait()
    assert not app.backend.watching
    with pytest.raises(group[0].TimeoutError):
        group.get(timeout=0.01, follow_parents=False)
    done(app, "a", "b")
    assert group.get(timeout=30) == ["value of a", "value of b"], "whatever was before"
    assert not app.backend.watching


def test_a_group_does_not_wait_for_what_was_before(app: Any) -> None:
    group = GroupResult("g", ["a"], AsyncResult("nobody", app=app), app=app)

    async def gather() -> Any:
        waiting = asyncio.ensure_future(group._awaited())
        await asyncio.sleep(0)
        done(app, "a")
        return await waiting

    assert asyncio.run(gather()) == ["value of a"] == group.get(timeout=30)
    assert GroupResult("e", [], AsyncResult("nobody", app=app), app=app).get(timeout=30) == []


def test_the_class_of_an_app_is_one(app: Any) -> None:
    assert app.GroupResult is app.GroupResult


def test_the_lineage_of_a_long_chain_is_no_deep_recursion(app: Any) -> None:
    result: Any = None
    for n in range(5000):
        result = AsyncResult(str(n), app=app, parent=result)
    assert result.as_list()[:2] == ["4999", "4998"] and len(result.as_list()) == 5000
    assert result_from_tuple(result.as_tuple(), app).as_list() == result.as_list()


def test_a_group_is_saved_and_found_again(app: Any) -> None:
    group = app.GroupResult("g", [AsyncResult("a", app=app), AsyncResult("b", app=app)])
    assert group.app is app and isinstance(group, GroupResult) and group.save() is group
    assert app.backend.groups["g"] == {
        "result": [["g", None], [[["a", None], None], [["b", None], None]]]
    }
    for found in (
        GroupResult.restore("g"),
        GroupResult.restore("g", app=app),
        app.GroupResult.restore("g"),
        GroupResult.restore("g", app.backend),
    ):
        assert found == group and found.app is app
    assert type(pickle.loads(pickle.dumps(group))) is GroupResult
    group.delete()
    assert GroupResult.restore("g", app=app) is None


# Any shape

STATES = st.sampled_from(["SUCCESS", "FAILURE", "REVOKED", "PROGRESS", None])
SHAPES = st.recursive(STATES, lambda inner: st.lists(inner, max_size=4), max_leaves=12)


def build(app: Any, shape: Any, numbers: Any) -> Any:
    """Results whose tasks are in these states, lists as groups."""
    if isinstance(shape, list):
        return GroupResult(
            f"g{next(numbers)}", [build(app, one, numbers) for one in shape], app=app
        )
    task_id = str(next(numbers))
    if shape is not None:
        error = exception_codec.to_document(ValueError(task_id))
        app.backend.put(task_id, shape, error if shape in ("FAILURE", "REVOKED") else task_id)
    return AsyncResult(task_id, app=app)


def holds(shape: Any, states: set[Any]) -> bool:
    """Whether all tasks are in one of these states."""
    return all(holds(one, states) for one in shape) if isinstance(shape, list) else shape in states


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(shapes=st.lists(SHAPES, max_size=5))
def test_counts_of_any_shape(app: Any, shapes: list[Any]) -> None:
    app.backend.documents.clear()
    results = build(app, shapes, itertools.count())
    ready = {"SUCCESS", "FAILURE", "REVOKED"}
    assert results.completed_count() == sum(holds(one, {"SUCCESS"}) for one in shapes)
    assert results.ready_count() == sum(holds(one, ready) for one in shapes)
    assert results.ready() == holds(shapes, ready) != results.waiting()
    assert results.successful() == holds(shapes, {"SUCCESS"})
    assert results.failed() != holds(shapes, {"SUCCESS", "REVOKED", "PROGRESS", None})
    stored = results.as_tuple()
    assert result_from_tuple(stored, app) == results
    assert result_from_tuple(stored, app).as_tuple() == stored
    assert pickle.loads(pickle.dumps(results)).as_tuple() == stored
    if holds(shapes, ready):
        assert len(results.get(propagate=False)) == len(shapes)
