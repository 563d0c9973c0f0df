"""Results as a caller sees them."""

import asyncio
import copy
import pickle
from typing import Any

import pytest

from taskcore import exceptions
from taskcore.context import reset_request, set_request
from taskcore.result import (
    AsyncResult,
    EagerResult,
    ResultSet,
    TimeoutError,
    allow_join_result,
    result_from_tuple,
)
from taskcore.results import exception_codec


def done(
    app: Any, task_id: str, value: Any, state: str = "SUCCESS", **fields: Any
) -> AsyncResult[Any]:
    app.backend.put(task_id, state, value, fields=fields)
    return AsyncResult(task_id, app=app)


def test_a_value(app: Any) -> None:
    result = done(app, "i", 5)
    assert result.get() == 5 and result.ready() and result.successful() and not result.failed()
    assert (result.state, result.status, result.result, result.info) == ("SUCCESS", "SUCCESS", 5, 5)
    app.backend.documents.clear()
    assert result.get() == 5, "what is final is kept"


def test_nothing_is_pending(app: Any) -> None:
    result = AsyncResult("i", app=app)
    assert (result.state, result.result, result.traceback, result.children) == (
        "PENDING",
        None,
        None,
        None,
    )
    with pytest.raises(TimeoutError):
        result.get(timeout=0)
    with pytest.raises(TypeError, match="timeou"):
        result.get(timeou=1)


def test_an_exception_is_raised_or_returned(app: Any) -> None:
    result = done(
        app, "i", exception_codec.to_document(ValueError("x", 3)), "FAILURE", traceback="Traceback"
    )
    with pytest.raises(ValueError) as caught:
        result.get()
    assert caught.value.args == ("x", 3)
    assert isinstance(result.get(propagate=False), ValueError) and result.failed()
    with pytest.raises(ValueError):
        result.maybe_throw()


def test_a_state_that_is_not_final_is_asked_for_again(app: Any) -> None:
    result = done(app, "i", {"pct": 1}, "PROGRESS")
    assert result.info == {"pct": 1} and not result.ready()
    done(app, "i", 2)
    assert result.state == "SUCCESS"


def test_who_waits_says_whether_the_worker_knows_it(app: Any) -> None:
    """A result published here is pushed to this process; any other must be looked for on Celery's
    channel."""
    done(app, "i", 1)
    AsyncResult("i", app=app, reply_to="tc-fake").get()
    AsyncResult("i", app=app, reply_to="tc-other").get()
    AsyncResult("i", app=app).get(timeout=3)
    app.conf.task_protocol = 2
    backend = app.backend
    done(app, "i", 1)
    AsyncResult("i", app=app, reply_to="tc-fake").get()
    assert backend.waited == [("i", None, True)]


def test_extended_fields(app: Any) -> None:
    result = done(
        app,
        "i",
        1,
        name="t",
        args=[1],
        kwargs={},
        worker="w",
        retries=2,
        queue="q",
        date_done="2026-01-02T03:04:05+00:00",
        children=[[["c", None], None]],
    )
    assert (
        result.name,
        result.args,
        result.kwargs,
        result.worker,
        result.retries,
        result.queue,
    ) == (
        "t",
        [1],
        {},
        "w",
        2,
        "q",
    )
    assert result.date_done is not None and result.date_done.year == 2026
    assert result.children == [AsyncResult("c")]


def test_waiting_inside_a_task_is_refused(app: Any, core: Any) -> None:
    result = done(app, "i", 1)
    token = set_request(core.Request(id="t", task="t"))
    try:
        for wait in (result.get, ResultSet(["i"], app).get):
            with pytest.raises(RuntimeError, match="within a task"):
                wait()
        assert result.get(disable_sync_subtasks=False) == 1
        with allow_join_result():
            assert AsyncResult("i", app=app).get() == 1
    finally:
        reset_request(token)


def test_forget(app: Any) -> None:
    result = done(app, "i", 1)
    assert result.get() == 1
    result.forget()
    assert result.state == "PENDING"


def test_revoking_is_kept_for_later_workers_told_to_others_and_takes_back_what_is_scheduled(
    app: Any,
) -> None:
    result = AsyncResult("i", app=app)
    app.publisher.scheduled["somewhere"] = ["i"]
    result.revoke(terminate=False)
    assert app.publisher.kept == ["i"]
    [(exchange, said)] = app.publisher.said
    assert exchange == "celery.pidbox" and said["method"] == "revoke"
    assert said["arguments"]["task_id"] == "i" and said["arguments"]["terminate"] is False
    assert result.state == "REVOKED"
    with pytest.raises(exceptions.TaskRevokedError):
        result.get()
    ResultSet([AsyncResult("j", app=app)], app).revoke(terminate=True, signal="SIGKILL")
    told = app.publisher.said[-1][1]["arguments"]
    assert (told["task_id"], told["terminate"], told["signal"]) == ("j", True, "SIGKILL")
    app.control.revoke("k", destination=["w@host"])
    assert app.publisher.kept == ["i", "j"], "of what only some are told nothing is kept"


def test_identity(app: Any) -> None:
    import pickle

    result = AsyncResult("i", app=app)
    assert (
        result == AsyncResult("i")
        and result != AsyncResult("j")
        and len({result, AsyncResult("i")}) == 1
    )
    assert (
        str(result) == "i" == result.task_id
        and pickle.loads(pickle.dumps(AsyncResult("i"))) == result
    )
    assert result_from_tuple(result.as_tuple(), app) == result


def test_a_result_can_be_awaited(app: Any) -> None:
    import asyncio

    done(app, "i", 4)

    async def wait() -> Any:
        return await AsyncResult("i", app=app)

    assert asyncio.run(wait()) == 4


def test_many_results(app: Any) -> None:
    results = ResultSet(["a", "b", "c"], app)
    assert not results.ready() and results.waiting() and results.completed_count() == 0
    done(app, "a", 1)
    done(app, "c", 3)
    assert (results.completed_count(), results.ready_count()) == (2, 2)
    with pytest.raises(TimeoutError):
        results.get(timeout=0)
    done(app, "b", exception_codec.to_document(KeyError("k")), "FAILURE")
    assert results.ready() and results.failed() and not results.successful()
    with pytest.raises(KeyError):
        results.get()
    values = results.join(propagate=False)
    assert (values[0], values[2]) == (1, 3) and isinstance(values[1], KeyError)
    assert [r.id for r in results] == ["a", "b", "c"] == results.ids
    assert results[-1].get() == 3 and results[0:2].ids == ["a", "b"] and len(results) == 3
    with pytest.raises(IndexError):
        _ = results[3]
    results.forget()
    assert results.ready_count() == 0 and not app.backend.documents


# Exceptions in documents


@pytest.mark.parametrize(
    ("exc", "module"),
    [
        (ValueError("x"), "builtins"),
        (exceptions.Retry("m"), "celery.exceptions"),
        (exceptions.TaskRevokedError("revoked"), "celery.exceptions"),
        (exceptions.NotRegistered("t"), "celery.exceptions"),
        (exceptions.SoftTimeLimitExceeded(), "billiard.exceptions"),
        (exceptions.WorkerLostError("w"), "billiard.exceptions"),
        (exceptions.OperationalError("o"), "kombu.exceptions"),
        (exceptions.NotSupportedError("o"), "taskcore.exceptions"),
    ],
    ids=repr,
)
def test_exceptions_are_written_under_the_name_that_celery_knows(
    core: Any, exc: Exception, module: str
) -> None:
    document = exception_codec.to_document(exc)
    assert document["exc_module"] == module
    found = exception_codec.from_document(document)
    assert type(found) is type(exc) and found.args == exc.args


@pytest.mark.parametrize("name", sorted(exception_codec._WRITTEN_AS))
def test_every_name_exists_on_both_sides(name: str) -> None:
    import importlib

    pytest.importorskip("celery")
    assert issubclass(getattr(exceptions, name), BaseException)
    module = importlib.import_module(exception_codec._WRITTEN_AS[name])
    assert hasattr(module, name), f"{exception_codec._WRITTEN_AS[name]} has no {name}"


def test_an_unknown_exception_is_made_up_and_its_module_is_not_imported() -> None:
    import sys

    document = {
        "exc_type": "Outer.Inner",
        "exc_message": ["a", 1],
        "exc_module": "wsgiref.simple_server",
    }
    sys.modules.pop("wsgiref.simple_server", None)
    found = exception_codec.from_document(document)
    assert type(found).__qualname__ == "Outer.Inner" and found.args == ("a", 1)
    assert "wsgiref.simple_server" not in sys.modules


@pytest.mark.parametrize(
    ("name", "module"),
    [("system", "os"), ("int", "builtins"), ("path", "os"), ("Popen", "subprocess")],
)
def test_what_is_no_exception_is_refused(name: str, module: str) -> None:
    import subprocess  # noqa: F401 - so that it is loaded

    with pytest.raises(exceptions.SecurityError, match=name):
        exception_codec.from_document(
            {"exc_type": name, "exc_message": ["true"], "exc_module": module}
        )


def test_an_exception_that_takes_other_arguments_keeps_its_name() -> None:
    found = exception_codec.from_document(
        {"exc_type": "UnicodeDecodeError", "exc_message": ["x"], "exc_module": "builtins"}
    )
    assert type(found).__name__ == "UnicodeDecodeError" and found.args == ("x",)
    assert exception_codec.from_document(
        {"exc_type": "ValueError", "exc_message": "one", "exc_module": "builtins"}
    ).args == ("one",)
    assert isinstance(exception_codec.from_document("text"), exceptions.TaskcoreError)


def test_what_is_seen_while_waiting(app: Any) -> None:
    seen: list[Any] = []
    intervals: list[int] = []
    app.backend.put("i", "PROGRESS", {"n": 1})
    result = AsyncResult("i", app=app)

    def tick() -> None:
        intervals.append(1)
        if len(intervals) == 2:
            app.backend.put("i", "SUCCESS", 7)

    value = result.get(
        timeout=30,
        interval=0.001,
        on_interval=tick,
        on_message=lambda document: seen.append(document["status"]),
        callback=lambda task_id, value: seen.append((task_id, value)),
    )
    assert value == 7 and len(intervals) == 2
    assert seen == ["PROGRESS", "SUCCESS", ("i", 7)]


def test_watching_ends_with_the_timeout(app: Any) -> None:
    with pytest.raises(TimeoutError):
        AsyncResult("i", app=app).get(timeout=0.002, interval=0.001, on_interval=lambda: None)


def test_options_of_get_are_celerys(app: Any) -> None:
    result = done(app, "i", 5)
    assert result.get(no_ack=True, follow_parents=True, on_message=None, callback=None) == 5
    with pytest.raises(TypeError, match="did you mean `interval`"):
        result.get(intervall=1)


def test_a_result_that_nobody_wants_is_none_at_once(app: Any) -> None:
    quiet = app.task(lambda: 1, name="quiet", ignore_result=True)
    loud = app.task(lambda: 1, name="loud")
    wanted = [quiet.apply_async(ignore_result=False), loud.delay(), loud.delay()]
    unwanted = [quiet.delay(), quiet.delay(), loud.apply_async(ignore_result=True)]
    assert not any(result.ignored for result in wanted)
    for result in unwanted:
        assert result.ignored and result.get() is None and result.state == "PENDING"
        assert repr(result) == f"<AsyncResult: {result.id}>"
    assert quiet.apply_many([(), ()]).get() == [None, None]
    mixed = app.send_many([quiet.s(), loud.s()])
    assert [result.ignored for result in mixed] == [True, False]


def test_the_tree_of_what_a_task_published(app: Any) -> None:
    leaf = done(app, "leaf", 3)
    middle = done(app, "middle", 2, children=[leaf.as_tuple()])
    root = done(app, "root", 1, children=[middle.as_tuple()])
    assert [(parent and parent.id, node.id) for parent, node in root.iterdeps()] == [
        (None, "root"),
        ("root", "middle"),
        ("middle", "leaf"),
    ]
    assert [(node.id, value) for node, value in root.collect()] == [
        ("root", 1),
        ("middle", 2),
        ("leaf", 3),
    ]
    assert root.get_leaf() == 3
    waits = done(app, "waits", 1, children=[[["nobody", None], None]])
    with pytest.raises(exceptions.IncompleteStream, match="`nobody` is not ready"):
        list(waits.iterdeps())
    assert len(list(waits.iterdeps(intermediate=True))) == 2


def test_small_things_of_a_result(app: Any) -> None:
    result = done(app, "i", 5)
    assert result.exists() and not AsyncResult("other", app=app).exists()
    assert AsyncResult("i", app=app, parent=AsyncResult("p", app=app)).as_list() == ["i", "p"]
    assert result.as_tuple() == (("i", None), None)
    failed = done(app, "f", exception_codec.to_document(ValueError("x")), "FAILURE")
    with pytest.raises(ValueError, match="x"):
        failed.throw()


class Leave(BaseException):
    """Of the user's own."""


ENDS = [SystemExit(3), KeyboardInterrupt("k"), GeneratorExit(), asyncio.CancelledError("c"), Leave("l", 1)]  # fmt: skip


@pytest.mark.parametrize("exc", ENDS, ids=repr)
def test_what_would_end_the_caller_arrives_as_a_failure_that_names_it(
    app: Any, exc: BaseException
) -> None:
    name = type(exc).__name__
    result = done(app, "i", exception_codec.to_document(exc), "FAILURE")
    done(app, "pickled", exc, "FAILURE")
    eager = EagerResult("i", exc, "FAILURE")
    for raising in (
        result.get,
        result.maybe_throw,
        AsyncResult("pickled", app=app).get,
        ResultSet(["i"], app).get,
        eager.get,
        eager.maybe_throw,
    ):
        with pytest.raises(exceptions.TaskcoreError) as raised:
            raising()
        found = raised.value
        assert type(found).__name__ == name and str(found).startswith(name)
        assert found.args == exc.args
    for value in (result.result, eager.result, result.get(propagate=False)):
        assert isinstance(value, Exception) and type(value).__name__ == name

    async def wait() -> None:
        await result

    with pytest.raises(exceptions.TaskcoreError, match=name):
        asyncio.run(wait())


@pytest.mark.parametrize("exc", ENDS, ids=repr)
def test_an_eager_call_does_not_end_its_caller(app: Any, exc: BaseException) -> None:
    @app.task(name="ends")  # type: ignore[untyped-decorator]
    def ends() -> None:
        raise exc

    if isinstance(exc, KeyboardInterrupt):
        # Somebody has pressed Ctrl-C in this program.
        for throw in (True, False):
            with pytest.raises(KeyboardInterrupt):
                ends.apply(throw=throw)
        return
    with pytest.raises(exceptions.TaskcoreError, match=type(exc).__name__):
        ends.apply(throw=True)
    assert ends.apply().failed()


def test_the_text_of_an_exception_that_cannot_be_rebuilt_names_it() -> None:
    document = {"exc_type": "UnicodeDecodeError", "exc_message": ["x"], "exc_module": "builtins"}
    assert str(exception_codec.from_document(document)) == "UnicodeDecodeError: x"
    empty = {"exc_type": "UnicodeDecodeError", "exc_message": [], "exc_module": "builtins"}
    assert str(exception_codec.from_document(empty)) == "UnicodeDecodeError"


def test_arguments_stand_where_celery_has_them(app: Any) -> None:
    before: AsyncResult[Any] = AsyncResult("before", app=app)
    made: AsyncResult[Any] = AsyncResult("i", app.backend, "name", app, before)
    assert (made.backend, made.app, made.parent) == (app.backend, app, before)
    with pytest.raises(TypeError, match="pass `app=`"):
        AsyncResult("i", app)
    with pytest.raises(TypeError, match="positional"):
        ResultSet(["i"], app, "barrier")  # type: ignore[misc]


def test_copies_are_of_the_same_kind(app: Any) -> None:
    quiet = app.task(lambda: 1, name="quiet", ignore_result=True).delay()
    eager = EagerResult("e", 5, "SUCCESS", "text", "name")
    for made in (copy.copy(quiet), pickle.loads(pickle.dumps(quiet))):
        assert type(made) is type(quiet) and made.ignored and made.get() is None
    for made in (copy.copy(eager), pickle.loads(pickle.dumps(eager))):
        assert type(made) is EagerResult and made.id == "e"
        assert (made.get(), made.state, made.traceback, made.name) == (5, "SUCCESS", "text", "name")
    assert copy.copy(AsyncResult("i", app=app)).app is app


def test_an_eager_result_can_be_revoked() -> None:
    eager = EagerResult("e", 5, "SUCCESS")
    eager.revoke()
    assert eager.state == "REVOKED" and isinstance(eager.result, exceptions.TaskRevokedError)
    with pytest.raises(exceptions.TaskRevokedError):
        eager.get()


def test_sets_of_the_same_results_are_equal(app: Any) -> None:
    assert ResultSet(["a", "b"], app) == ResultSet([AsyncResult("a", app=app), "b"])
    assert ResultSet(["a", "b"], app) != ResultSet(["b", "a"], app)
    assert ResultSet(["a"], app) != ["a"]
    with pytest.raises(TypeError, match="unhashable"):
        hash(ResultSet([], app))


# What follows a result


def test_who_is_called_when_a_task_has_ended(app: Any) -> None:
    seen: list[Any] = []
    result = AsyncResult("i", app=app)
    doubled = result.then(lambda one: one.result * 2)
    doubled.then(seen.append)
    result.then(seen.append, weak=False)
    assert seen == [] and not doubled.ready
    done(app, "i", 5)
    assert seen == [10, result] and doubled.value == 10 and doubled.ready and not doubled.failed
    result.then(seen.append)
    result.on_ready.then(seen.append)
    EagerResult("e", 1, "SUCCESS").then(seen.append)
    assert seen == [10, result, result, result, "e"]


def test_a_callback_that_raises_is_told_to_who_asked(app: Any) -> None:
    errors: list[BaseException] = []

    def broken(one: Any) -> None:
        raise ValueError(one.id)

    result = done(app, "i", 5)
    following = result.then(broken, errors.append)
    following.then(print, errors.append)
    assert [repr(error) for error in errors] == ["ValueError('i')"] * 2
    assert following.failed and following.reason is errors[0]
    with pytest.raises(ValueError, match="i"):
        result.then(broken)


def test_a_weak_callback_does_not_keep_the_result(app: Any) -> None:
    seen: list[Any] = []
    AsyncResult("i", app=app).then(seen.append, weak=True)
    kept = AsyncResult("i", app=app)
    kept.then(seen.append, weak=True)
    done(app, "i", 5)
    assert seen == [kept] and kept.result == 5


def test_the_graph_of_what_a_task_published(app: Any) -> None:
    import io

    done(app, "a", 1)
    done(app, "b", 2)
    root = done(
        app, "root", 3, children=[[["a", None], None], [["g", None], [[["b", None], None]]]]
    )
    graph = root.graph
    assert {str(node): [str(one) for one in graph[node]] for node in graph} == {
        "root": ["a", "g"],
        "a": [],
        "g": ["b"],
        "b": [],
    }
    assert [str(node) for node in graph.topsort()][-1] == "root" and len(list(graph.edges())) == 2
    written = io.StringIO()
    graph.to_dot(written)
    assert '"root" -> "g"' in written.getvalue() and 'shape="oval"' in written.getvalue()
    waits = done(app, "waits", 1, children=[[["nobody", None], None]])
    with pytest.raises(exceptions.IncompleteStream):
        waits.build_graph()
    assert len(waits.build_graph(intermediate=True)) == 2


def test_a_circle_has_no_order() -> None:
    from taskcore.utils.graph import CycleError, DependencyGraph

    with pytest.raises(CycleError, match="cycle"):
        DependencyGraph([("a", ["b"]), ("b", ["a"])]).topsort()


def test_a_result_looks_where_it_is_told_to(app: Any) -> None:
    from taskcore import Taskcore

    other = Taskcore("other", broker="memory://", backend="memory://", set_as_current=False)
    done(other, "i", 5)
    result = AsyncResult("i", app=app, backend=other.backend)
    assert result.get() == 5 and copy.copy(result).backend is other.backend
    result = AsyncResult("i", app=app)
    result.backend = other.backend
    assert result.exists()
    with pytest.raises(ValueError, match="`None`"):
        AsyncResult(None)  # type: ignore[arg-type]


def test_a_result_may_be_given_up(app: Any) -> None:
    result = AsyncResult("i", app=app)
    result.ignored = True
    result.task_id = "j"
    assert result.get() is None and result.id == "j"


def test_forgetting_a_chain_forgets_what_was_before(app: Any) -> None:
    last = done(app, "c", 3)
    last.parent = done(app, "b", 2)
    last.parent.parent = done(app, "a", 1)
    last.forget()
    assert not app.backend.documents


def test_what_is_told_with_the_exception(app: Any) -> None:
    seen: list[Any] = []
    result = done(app, "i", 5)
    assert result.maybe_throw(callback=lambda *told: seen.append(told)) == 5
    failed = done(app, "f", exception_codec.to_document(ValueError("x")), "FAILURE")
    failed.maybe_throw(propagate=False, callback=lambda *told: seen.append(told))
    assert seen[0] == ("i", 5) and isinstance(seen[1][1], ValueError)
    assert isinstance(failed._get_task_meta()["result"], ValueError)
