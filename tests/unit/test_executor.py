"""The life of one call: steps, hooks, signals, and how every ending becomes an outcome."""

import contextlib
import gc
import time
import weakref
from typing import Any

import pytest

from taskcore import signals
from taskcore.context import get_request
from taskcore.exceptions import (
    EncodeError,
    Ignore,
    OperationalError,
    Reject,
    Retry,
    TimeLimitExceeded,
)
from taskcore.execution import callbacks, outcome
from taskcore.task import Task
from taskcore.task.retry import backoff


class Recorder(Task[..., Any]):
    """Keeps the hooks that ran."""

    def __init__(self) -> None:
        self.ran: list[Any] = []

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        self.ran.append(("before_start", task_id, list(args)))

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        self.ran.append(("on_success", retval))

    def on_failure(
        self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any
    ) -> None:
        self.ran.append(("on_failure", exc, einfo.exception))

    def on_retry(
        self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any
    ) -> None:
        self.ran.append(("on_retry", exc))

    def after_return(
        self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any
    ) -> None:
        self.ran.append(("after_return", status, retval))


def make(app: Any, fun: Any, **options: Any) -> Any:
    return app.task(fun, name="t", **options) if not options else app.task(name="t", **options)(fun)


def run(app: Any, core: Any, args: tuple[Any, ...] = (), **fields: Any) -> outcome.Outcome:
    request = core.Request(**{"id": "i", "task": "t", "args": list(args), **fields})
    ended = app.executor.run(app.executor.plan("t"), request, args, {})
    assert get_request() is None
    request.store_ended(app.backend)
    return ended


def failing(exc: BaseException) -> Any:
    def fail(*args: Any) -> None:
        raise exc

    return fail


def test_a_plain_task_needs_no_steps(app: Any, core: Any) -> None:
    def body(x: int) -> int:
        return x + 1

    make(app, body)
    plan = app.executor.plan("t")
    assert plan.plain and plan.fun is body
    assert app.executor.plan("t") is plan and app.executor.plan("nobody") is None
    assert run(app, core, (1,)) == (outcome.SUCCESS, "SUCCESS", 2, None, "2")


def test_hooks_and_signals_make_a_task_not_plain(app: Any) -> None:
    make(app, lambda: None, base=Recorder)
    assert not app.executor.plan("t").plain

    def listen(**_: Any) -> None: ...

    app.task(lambda: None, name="other")
    signals.task_prerun.connect(listen)
    try:
        assert not app.executor.plan("other").plain
    finally:
        signals.task_prerun.disconnect(listen)


def test_hooks_run_in_order(app: Any, core: Any) -> None:
    task = make(app, lambda x: x, base=Recorder)
    run(app, core, (5,))
    assert task.ran == [
        ("before_start", "i", [5]),
        ("on_success", 5),
        ("after_return", "SUCCESS", 5),
    ]


def test_hooks_of_a_failure(app: Any, core: Any) -> None:
    exc = ValueError("x")
    task = make(app, failing(exc), base=Recorder)
    ended = run(app, core)
    assert task.ran[1:] == [("on_failure", exc, exc), ("after_return", "FAILURE", exc)]
    assert ended.result == {
        "exc_type": "ValueError",
        "exc_message": ["x"],
        "exc_module": "builtins",
    }


def test_a_hook_set_by_the_decorator_is_a_hook(app: Any, core: Any) -> None:
    seen: list[Any] = []
    make(app, lambda: 3, on_success=lambda self, retval, *rest: seen.append((self.name, retval)))
    run(app, core)
    assert seen == [("t", 3)]


def test_a_hook_that_raises_changes_nothing_once_the_task_has_ended(app: Any, core: Any) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("hook")

    make(app, lambda: 3, on_success=broken, after_return=broken)
    assert run(app, core).verdict == outcome.SUCCESS
    make_again = app.task(name="t2", on_failure=broken)(failing(ValueError("x")))
    request = core.Request(id="i", task="t2")
    ended = app.executor.run(app.executor.plan(make_again.name), request, (), {})
    assert ended.result["exc_type"] == "ValueError"


def test_before_start_can_fail_the_task(app: Any, core: Any) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("not today")

    ran: list[int] = []
    make(app, lambda: ran.append(1), before_start=broken)
    assert run(app, core).result["exc_type"] == "RuntimeError" and not ran


def test_signals_in_order(app: Any, core: Any) -> None:
    seen: list[Any] = []
    names = ["task_prerun", "task_success", "task_failure", "task_postrun"]
    listeners = {}
    for name in names:

        def listen(sender: Any, signal: Any, name: str = name, **named: Any) -> None:
            seen.append((name, sender.name, named.get("state")))

        listeners[name] = getattr(signals, name).connect(listen)
    try:
        make(app, lambda: 1)
        run(app, core)
        app.task(failing(KeyError()), name="f")
        request = core.Request(id="i", task="f")
        app.executor.run(app.executor.plan("f"), request, (), {})
    finally:
        for name in names:
            getattr(signals, name).disconnect(listeners[name])
    assert seen == [
        ("task_prerun", "t", None),
        ("task_success", "t", None),
        ("task_postrun", "t", "SUCCESS"),
        ("task_prerun", "f", None),
        ("task_failure", "f", None),
        ("task_postrun", "f", "FAILURE"),
    ]


@pytest.mark.parametrize(
    ("exc", "verdict", "state"),
    [
        (ValueError("x"), outcome.FAILURE, "FAILURE"),
        (SystemExit(3), outcome.FAILURE, "FAILURE"),
        (KeyboardInterrupt(), outcome.FAILURE, "FAILURE"),
        (GeneratorExit(), outcome.FAILURE, "FAILURE"),
        (Ignore(), outcome.IGNORE, "IGNORED"),
        (Reject("no"), outcome.REJECT, "FAILURE"),
        (Reject("later", requeue=True), outcome.REQUEUE, "REJECTED"),
        (EncodeError("x"), outcome.FAILURE, "FAILURE"),
    ],
    ids=repr,
)
def test_every_exception_has_its_outcome(
    app: Any, core: Any, exc: BaseException, verdict: int, state: str
) -> None:
    make(app, failing(exc))
    assert run(app, core)[:2] == (verdict, state)
    plan = app.executor.plan("t")
    assert app.executor.handle_exception(plan, core.Request(id="i", task="t"), (), {}, exc)[:2] == (
        verdict,
        state,
    )
    assert get_request() is None


def test_a_result_that_is_too_long_fails_before_hooks_say_otherwise(app: Any, core: Any) -> None:
    app.conf.result_max_size = 10
    task = make(app, lambda: "x" * 9, base=Recorder)
    ended = run(app, core)
    assert ended.verdict == outcome.FAILURE
    assert "`11` bytes, more than the `result_max_size` of `10`" in ended.note
    assert "on_success" not in [step[0] for step in task.ran]
    assert run(app, core, ignore_result=True).verdict == outcome.SUCCESS


def test_an_exception_that_cannot_be_printed_is_still_an_outcome(app: Any, core: Any) -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError

        __repr__ = __str__

    make(app, failing(Broken(object())))
    ended = run(app, core)
    assert ended.verdict == outcome.FAILURE and ended.result["exc_type"].endswith("Broken")


def test_arguments_that_json_cannot_write_are_printed(app: Any, core: Any) -> None:
    thing = object()
    make(app, failing(ValueError(thing, 1, [thing], "ok")))
    assert run(app, core).result["exc_message"] == [repr(thing), 1, repr([thing]), "ok"]


def test_the_traceback_begins_in_user_code(app: Any, core: Any) -> None:
    def inner() -> None:
        raise ValueError("deep")

    def body() -> None:
        try:
            inner()
        except ValueError as exc:
            raise KeyError("outer") from exc

    make(app, body)
    text = run(app, core).traceback
    assert text is not None
    assert "in body" in text and "in inner" in text and "direct cause" in text
    assert "taskcore/execute.py" not in text and __file__ in text


def test_a_retry_is_the_same_message_once_more(app: Any, core: Any) -> None:
    def body(self: Any, x: int) -> None:
        raise self.retry(exc=KeyError("why"), countdown=10, priority=7)

    make(app, body, bind=True, base=None)
    ended = run(
        app,
        core,
        (1,),
        retries=2,
        root_id="r",
        parent_id="p",
        group="g",
        group_index=0,
        queue="q9",
        headers={"h": 1},
        reply_to="tc-x",
        timelimit=[30, None],
        expires="2030-01-01T00:00:00+00:00",
        stamped_headers=["s"],
        stamps={"s": 1},
        serializer="json",
        compression="application/x-gzip",
        shadow="other",
        ignore_result=False,
        origin="gen1@h",
        protocol=None,
    )
    assert (ended.verdict, ended.state, ended.note) == (
        outcome.RETRY,
        "RETRY",
        "Retry in 10s: KeyError('why')",
    )
    assert ended.result["exc_type"] == "KeyError"
    template, args, kwargs, fields = app.publisher.sent[-1]
    eta = fields.pop("eta")
    assert (args, kwargs) == ([1], {}) and eta > 0
    assert template.fields["protocol"] == "celery"
    assert fields == {
        "task_id": "i",
        "retries": 3,
        "root_id": "r",
        "parent_id": "i",
        "group": "g",
        "group_index": 0,
        "queue": "q9",
        "exchange": "",
        "routing_key": "q9",
        "route": "",
        "headers": {"h": 1},
        "reply_to": "tc-x",
        "time_limit": 30,
        "expires": 1893456000.0,
        "stamped_headers": ["s"],
        "stamps": {"s": 1},
        "serializer": "json",
        "compression": "gzip",
        "shadow": "other",
        "ignore_result": False,
        "priority": 7,
    }


def test_retries_end(app: Any, core: Any) -> None:
    def body(self: Any, exc: Any = None) -> None:
        raise self.retry(exc=exc)

    make(app, body, bind=True, max_retries=2)
    assert run(app, core, retries=1).verdict == outcome.RETRY
    ended = run(app, core, retries=2)
    assert ended.result["exc_type"] == "MaxRetriesExceededError"
    assert ended.result["exc_module"] == "celery.exceptions"
    assert run(app, core, (KeyError("k"),), retries=2).result["exc_type"] == "KeyError"


def test_retries_for_ever(app: Any, core: Any) -> None:
    make(app, lambda self: self.retry(), bind=True, max_retries=None)
    assert run(app, core, retries=10**6).verdict == outcome.RETRY


def test_automatic_retries(app: Any, core: Any) -> None:
    make(
        app,
        failing(FileNotFoundError("f")),
        autoretry_for=(OSError,),
        dont_autoretry_for=(PermissionError,),
        retry_backoff=3,
        retry_jitter=False,
        retry_kwargs={"max_retries": 4},
    )
    ended = run(app, core, retries=2)
    assert (ended.verdict, ended.note) == (outcome.RETRY, "Retry in 12.0s: FileNotFoundError('f')")
    assert run(app, core, retries=4).verdict == outcome.FAILURE
    plan, request = app.executor.plan("t"), core.Request(id="i", task="t")
    assert (
        app.executor.handle_exception(plan, request, (), {}, PermissionError()).verdict
        == outcome.FAILURE
    )
    assert app.executor.handle_exception(plan, request, (), {}, OSError()).verdict == outcome.RETRY
    assert app.executor.handle_exception(plan, request, (), {}, Ignore()).verdict == outcome.IGNORE


@pytest.mark.parametrize(("factor", "wait"), [(True, 4), (1.9, 4), (0.5, 4), (2.5, 8)])
def test_a_backoff_is_in_whole_seconds(factor: Any, wait: float) -> None:
    assert backoff(2, factor, 600, jitter=False) == wait


def test_a_refused_message_goes_back_with_a_mark(app: Any, core: Any) -> None:
    make(app, failing(Reject("later", requeue=True)), acks_late=True)
    request = {"retries": 2, "parent_id": "p", "headers": {"mine": 1}}
    assert run(app, core, **request).verdict == outcome.IGNORE
    fields = app.publisher.sent[-1][3]
    assert fields["headers"] == {"mine": 1, "redelivered": True} and "eta" not in fields
    assert (fields["task_id"], fields["retries"], fields["parent_id"]) == ("i", 2, "p")
    info = {"routing_key": "q", "priority": 0, "redelivered": True}
    before = time.time()
    assert run(app, core, delivery_info=info).verdict == outcome.IGNORE
    assert app.publisher.sent[-1][3]["eta"] >= before + 1
    app.publisher.error = OperationalError("away")
    assert run(app, core).verdict == outcome.REQUEUE


@pytest.mark.parametrize("auto", [False, True], ids=["retry()", "autoretry_for"])
@pytest.mark.parametrize("retries", [0, 3], ids=["again", "gives up"])
def test_an_ended_retry_keeps_nothing_alive(app: Any, core: Any, auto: bool, retries: int) -> None:
    class Why(Exception):
        def __init__(self) -> None:
            whys.append(weakref.ref(self))

    whys: list[weakref.ref[Why]] = []

    def body(self: Any) -> None:
        if auto:
            raise Why
        raise self.retry(exc=Why())

    how: Any = {"autoretry_for": [Why]} if auto else {}
    make(app, body, bind=True, base=None, max_retries=3, **how)
    gc.disable()
    try:
        run(app, core, retries=retries)
        assert [why() for why in whys] == [None]
    finally:
        gc.enable()


def test_a_retry_leaves_with_the_outcome_unless_the_execution_goes_on(app: Any, core: Any) -> None:
    make(app, lambda self, throw: self.retry(throw=throw) and None, bind=True)
    for throw in (True, False):
        request = core.Request(id="i", task="t")
        ended = app.executor.run(app.executor.plan("t"), request, (throw,), {})
        assert ended.verdict == (outcome.RETRY if throw else outcome.SUCCESS)
        assert len(request.following) == int(throw)
    assert len(app.publisher.sent) == 2


def test_what_would_have_followed_a_success_does_not_follow_a_failure(app: Any, core: Any) -> None:
    make(app, lambda: 5)
    sig = {"task": "u", "args": [], "kwargs": {}, "options": {}}
    plan, request = app.executor.plan("t"), core.Request(id="i", task="t", callbacks=[sig])
    assert app.executor.run(plan, request, (), {}).verdict == outcome.SUCCESS
    assert len(request.following) == len(request.children) == 1
    # The core cannot encode the result.
    app.executor.handle_exception(plan, request, (), {}, TypeError("no json"))
    assert request.following == request.children == []


def test_a_swallowed_retry_follows_a_success_and_no_failure(app: Any, core: Any) -> None:
    def body(self: Any, fails: bool) -> None:
        with contextlib.suppress(Retry):
            self.retry()
        if fails:
            raise ValueError

    make(app, body, bind=True)
    for fails in (False, True):
        request = core.Request(id="i", task="t")
        app.executor.run(app.executor.plan("t"), request, (fails,), {})
        assert len(request.following) == int(not fails)


def test_a_retry_outlives_ignore_and_is_warned_of_when_it_is_dropped(
    app: Any, core: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def body(self: Any, ending: Exception) -> None:
        with contextlib.suppress(Retry):
            self.retry()
        raise ending

    make(app, body, bind=True, acks_late=True)
    for ending, kept in ((Ignore(), 1), (Reject("no", requeue=False), 0), (ValueError(), 0)):
        request = core.Request(id="i", task="t")
        app.executor.run(app.executor.plan("t"), request, (ending,), {})
        assert len(request.following) == kept
        dropped = f"the retry of task `t[i]` is dropped, because after asking for it the task raised `{type(ending).__name__}`"
        assert (dropped in caplog.text) != kept


@pytest.mark.parametrize("given", [ValueError, ValueError()])
def test_a_class_is_a_reason_to_retry(app: Any, core: Any, given: Any) -> None:
    def body(self: Any) -> None:
        raise self.retry(exc=given)

    make(app, body, bind=True)
    ended = run(app, core)
    assert (ended.verdict, ended.result["exc_type"]) == (outcome.RETRY, "ValueError")


@pytest.mark.parametrize("given", ["busy", KeyError("k").args, int])
def test_what_is_no_exception_is_no_reason_to_retry(app: Any, core: Any, given: Any) -> None:
    def body(self: Any) -> None:
        raise self.retry(exc=given)

    make(app, body, bind=True)
    ended = run(app, core)
    assert (ended.verdict, ended.result["exc_type"]) == (outcome.FAILURE, "TypeError")
    assert app.publisher.sent == []


def test_a_retry_whose_reason_cannot_be_described_does_not_come(
    app: Any, core: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Exception):
        def __repr__(self) -> str:
            raise RuntimeError

    def body(self: Any) -> None:
        raise self.retry(exc=Broken())

    make(app, body, bind=True)
    request = core.Request(id="i", task="t")
    ended = app.executor.run(app.executor.plan("t"), request, (), {})
    assert (ended.verdict, request.following) == (outcome.FAILURE, [])
    assert "the retry of task `t[i]` is dropped" in caplog.text


def test_a_failure_is_told_to_error_callbacks_first(app: Any, core: Any) -> None:
    order: list[str] = []

    def errback(request: Any, exc: BaseException, traceback: str) -> None:
        order.append("errback")

    def listen(**_: Any) -> None:
        order.append("task_failure")

    app.task(name="e")(errback)
    make(app, failing(ValueError()), on_failure=lambda *_: order.append("on_failure"))
    signals.task_failure.connect(listen)
    try:
        run(app, core, errbacks=[{"task": "e", "args": [], "kwargs": {}, "options": {}}])
    finally:
        signals.task_failure.disconnect(listen)
    assert order == ["errback", "on_failure", "task_failure"]


def test_a_retry_that_cannot_be_published_loses_nothing(app: Any, core: Any) -> None:
    make(app, lambda self: self.retry(throw=False), bind=True)
    app.task(name="late", bind=True, acks_late=True)(lambda self: self.retry(throw=False))
    app.publisher.error = OperationalError("down")
    assert run(app, core).result["exc_type"] == "OperationalError"
    request = core.Request(id="i", task="late")
    ended = app.executor.run(app.executor.plan("late"), request, (), {})
    assert ended.verdict == outcome.REQUEUE


def test_callbacks_get_the_result(app: Any, core: Any) -> None:
    make(app, lambda: 5)
    app.task(lambda x, y: None, name="after")
    sig = {
        "task": "after",
        "args": [1],
        "kwargs": {},
        "options": {"queue": "q2"},
        "subtask_type": None,
        "immutable": False,
    }
    fixed = {**sig, "task": "unknown", "immutable": True}
    request = core.Request(id="i", task="t", root_id="r", callbacks=[sig, fixed])
    assert app.executor.run(app.executor.plan("t"), request, (), {}).verdict == outcome.SUCCESS
    (_, args, _, fields), (template, other, _, more) = app.publisher.sent
    assert (args, other, template.task) == ([5, 1], [1], "unknown")
    assert (fields["parent_id"], fields["root_id"], fields["queue"]) == ("i", "r", "q2")
    assert fields["group"] == more["group"] and (fields["group_index"], more["group_index"]) == (
        0,
        1,
    )
    ids = [((one["task_id"], None), None) for one in (fields, more)]
    assert request.children == [(fields["group"], ids)]


@pytest.mark.parametrize("inherits", [True, False])
def test_callbacks_and_the_next_step_inherit_the_priority(
    app: Any, core: Any, inherits: bool
) -> None:
    app.conf.task_inherit_parent_priority = inherits
    make(app, lambda fails: 1 / 0 if fails else 5)

    def sig(**options: Any) -> dict[str, Any]:
        return {"task": "u", "args": [], "kwargs": {}, "options": options}

    info = {"routing_key": "q", "priority": 7}
    follows = {"callbacks": [sig(), sig(priority=3)], "chain": [sig()], "errbacks": [sig()]}
    for fails in (False, True):
        run(app, core, (fails,), delivery_info=info, **follows)
    own = 7 if inherits else None
    # Error callbacks do not, as in Celery.
    assert [sent[3].get("priority") for sent in app.publisher.sent] == [own, 3, own, None]


def test_one_callback_is_no_group(app: Any, core: Any) -> None:
    make(app, lambda: 5)
    run(app, core, callbacks=[{"task": "u", "args": [], "kwargs": {}, "options": {}}])
    assert "group" not in app.publisher.sent[-1][3]


def test_the_next_step_of_a_chain(app: Any, core: Any) -> None:
    make(app, lambda: 5)

    def step(name: str) -> dict[str, Any]:
        return {"task": name, "args": [], "kwargs": {}, "options": {"task_id": f"id-{name}"}}

    run(app, core, chain=[step("last"), step("next")], protocol="celery")
    template, args, _, fields = app.publisher.sent[-1]
    assert (template.task, args, fields["task_id"]) == ("next", [5], "id-next")
    assert fields["chain"] == [step("last")] and template.fields["protocol"] == "celery"


def test_a_failure_fails_all_inside_of_what_would_have_followed(app: Any, core: Any) -> None:
    def task(task_id: str) -> dict[str, Any]:
        return {"task": "u", "options": {"task_id": task_id}}

    def composed(kind: str, task_id: str | None, **inside: Any) -> dict[str, Any]:
        return {"subtask_type": kind, "kwargs": inside, "options": {"task_id": task_id}}

    last = composed(
        "chord", None, header=composed("group", "g2", tasks=[task("c")]), body=task("body")
    )
    group = composed("group", "g", tasks=[task("a"), composed("chain", "b2", tasks=[task("b1")])])
    make(app, failing(ValueError("x")))
    # The body of its own chord waits for the other members.
    run(app, core, chain=[last, group], chord=task("chord"))
    ended = {"body", "g", "g2", "a", "b1", "b2", "c"}
    assert set(app.backend.documents) == ended
    assert {one["status"] for one in app.backend.documents.values()} == {"FAILURE"}


def test_what_will_not_run_counts_in_its_chord(app: Any, core: Any) -> None:
    make(app, failing(ValueError("x")))
    member = {"chord": {"task": "body"}, "group_id": "g", "group_index": 3}
    chain = [
        {"task": "u", "options": {"task_id": "last", **member}},
        {"task": "u", "options": {"task_id": "next", "group_id": "no chord"}},
    ]
    request = core.Request(id="i", task="t", args=[], chain=chain)
    app.executor.run(app.executor.plan("t"), request, (), {})
    assert request.counted == [("last", "g", 3)]


def test_a_failure_fails_the_rest_of_the_chain(app: Any, core: Any) -> None:
    make(app, failing(ValueError("x")))
    run(app, core, chain=[{"task": "u", "options": {"task_id": "later"}}])
    stored = app.backend.documents["later"]
    assert stored["status"] == "FAILURE" and stored["result"]["exc_type"] == "ValueError"
    assert not app.publisher.sent


def test_what_will_not_run_has_an_extended_result_too(app: Any, core: Any) -> None:
    app.conf.result_extended = True
    make(app, failing(ValueError()))
    step = {
        "task": "u",
        "args": [1],
        "kwargs": {"k": 2},
        "options": {"task_id": "n", "queue": "q2"},
    }
    run(app, core, chain=[step])
    document = app.backend.documents["n"]
    told = {key: document[key] for key in ("name", "args", "kwargs", "retries", "queue")}
    assert told == {"name": "u", "args": [1], "kwargs": {"k": 2}, "retries": 0, "queue": "q2"}


def test_a_callback_that_cannot_be_encoded_fails_the_task(app: Any, core: Any) -> None:
    make(app, lambda: 5)
    app.publisher.error = OperationalError("down")
    ended = run(app, core, callbacks=[{"task": "u", "args": [], "kwargs": {}, "options": {}}])
    assert ended.verdict == outcome.FAILURE


def test_error_callbacks_of_both_styles(app: Any, core: Any) -> None:
    called: list[Any] = []
    exc = ValueError("x")
    make(app, failing(exc))
    app.task(lambda request, exc, tb: called.append((request.id, exc, tb)), name="new")
    app.task(lambda task_id: None, name="old")
    sigs = [
        {"task": name, "args": [], "kwargs": {}, "options": {}}
        for name in ("new", "old", "elsewhere")
    ]
    run(app, core, errbacks=sigs)
    assert called[0][:2] == ("i", exc) and "ValueError" in called[0][2]
    assert [(s[0].task, s[1], s[3]["parent_id"]) for s in app.publisher.sent] == [
        ("old", ["i"], "i"),
        ("elsewhere", ["i"], "i"),
    ]


def single(task: str) -> dict[str, Any]:
    return {"task": task, "args": [], "kwargs": {}, "options": {}, "subtask_type": None}


def composed(kind: str, *members: Any) -> dict[str, Any]:
    inside = {"tasks": list(members)}
    return {**single(f"celery.{kind}"), "kwargs": inside, "subtask_type": kind}


def test_each_of_a_group_of_error_callbacks_is_sent(app: Any, core: Any) -> None:
    app.task(name="new")(lambda request, exc, traceback: None)
    make(app, failing(KeyError()))
    request = core.Request(
        id="i", task="t", errbacks=[composed("group", single("old"), single("new"))]
    )
    app.executor.run(app.executor.plan("t"), request, (), {})
    sent = [(sent[0].task, sent[1]) for sent in request.following]
    assert sent == [("old", ["i"]), ("new", ["i"])], "as in Celery, none is called here"
    assert request.children == [], "error callbacks are no children, as in Celery"


def test_a_composed_error_callback_is_published_with_the_id(app: Any, core: Any) -> None:
    make(app, failing(ValueError("x")))
    chained = composed("chain", single("u"), single("v"))
    run(app, core, errbacks=[chained])
    (sent,) = app.publisher.sent
    assert (sent[0].task, sent[1]) == ("u", ["i"])
    assert [step["task"] for step in sent[3]["chain"]] == ["v"]


def test_an_error_callback_that_raises_keeps_no_other_from_being_called(
    app: Any, core: Any, caplog: pytest.LogCaptureFixture
) -> None:
    called: list[str] = []
    make(app, failing(ValueError("x")))
    app.task(failing(RuntimeError()), name="broken")
    app.task(name="new")(lambda request, exc, traceback: called.append("new"))
    ended = run(app, core, errbacks=[single("broken"), single("old"), single("new")])
    assert ended.verdict == outcome.FAILURE
    assert called == ["new"]
    assert [sent[1] for sent in app.publisher.sent] == [["i"]]
    logged = [record.getMessage() for record in caplog.records if record.exc_info]
    assert logged == ["error callback `broken` of task [i] failed"]


@pytest.mark.parametrize(
    ("args", "kwargs", "immutable", "here"),
    [
        ((), {}, False, True),
        ((), {"note": 1}, False, False),
        ((1,), {}, False, True),
        ((1, 2), {}, False, False),
        ((), {"more": 1}, False, True),
        ((1, 2, 3), {}, True, True),
    ],
)
def test_stored_arguments_take_places_of_an_error_callback(
    app: Any, args: Any, kwargs: Any, immutable: bool, here: bool
) -> None:
    @app.task(name="new")
    def new(task_id: str, note: str = "", more: str = "") -> None: ...

    sig = {**single("new"), "args": args, "kwargs": kwargs, "immutable": immutable}
    assert callbacks.takes_exception(app, sig) is here


@pytest.mark.parametrize(
    "fields",
    [
        {"chain": [{"task": "celery.sheaf", "subtask_type": "sheaf"}]},
        {"callbacks": [{"task": "celery.chord", "subtask_type": "chord"}]},
    ],
    ids=str,
)
def test_what_cannot_be_carried_on_fails_before_user_code(app: Any, core: Any, fields: Any) -> None:
    ran: list[int] = []
    make(app, lambda: ran.append(1))
    ended = run(app, core, **fields)
    assert ended.verdict == outcome.FAILURE and not ran


def test_a_coroutine_function_is_run_on_one_loop(app: Any, core: Any) -> None:
    import asyncio

    async def body() -> int:
        await asyncio.sleep(0)
        return id(asyncio.get_running_loop())

    make(app, body)
    assert app.executor.plan("t").plain
    assert run(app, core).result == run(app, core).result


@pytest.mark.parametrize(
    ("throws", "verdict"),
    [
        ((), outcome.FAILURE),
        ((KeyError,), outcome.FAILURE),
        ((KeyError, ValueError), outcome.EXPECTED),
        ([Exception], outcome.EXPECTED),
    ],
)
def test_what_a_task_declares_is_an_expected_failure(
    app: Any, core: Any, throws: Any, verdict: int
) -> None:
    make(app, failing(ValueError("x")), throws=throws)
    ended = run(app, core)
    assert (ended.verdict, ended.state) == (verdict, "FAILURE")
    assert "ValueError: x" in (ended.traceback or ""), "the document has it all the same"


@pytest.mark.parametrize(
    ("exc", "returned"),
    [
        (None, "SUCCESS"),
        (ValueError("x"), "FAILURE"),
        (Ignore(), None),
        (Reject("no"), None),
        (Reject("later", requeue=True), None),
        (Retry(when=1), None),
    ],
    ids=repr,
)
def test_only_what_ended_for_good_has_returned(
    app: Any, core: Any, exc: BaseException | None, returned: str | None
) -> None:
    seen: list[str] = []
    fun = failing(exc) if exc is not None else lambda: 1
    make(app, fun, after_return=lambda self, status, *rest: seen.append(status))
    run(app, core)
    assert seen == ([returned] if returned else [])


def test_a_receiver_connected_after_the_first_run_is_heard(app: Any, core: Any) -> None:
    seen: list[str] = []
    make(app, lambda: 1)
    run(app, core)

    def listen(task_id: str, **_: Any) -> None:
        seen.append(task_id)

    for signal in (signals.task_prerun, signals.task_success, signals.task_postrun):
        assert app.executor.plan("t").plain
        signal.connect(listen, weak=False) if signal is not signals.task_success else None
        assert app.executor.plan("t").plain is (signal is signals.task_success)
        signal.disconnect(listen)
    assert app.executor.plan("t").plain
    signals.task_prerun.connect(listen)
    run(app, core)
    signals.task_prerun.disconnect(listen)
    run(app, core)
    assert seen == ["i"]


def test_the_core_is_told_when_entries_are_stale(core: Any) -> None:
    from taskcore.execution.executor import Executor

    told: list[int] = []
    executor = Executor(None, Task, lambda: told.append(1))

    def listen(**_: Any) -> None: ...

    signals.task_postrun.connect(listen)
    signals.task_postrun.connect(listen)
    signals.task_postrun.disconnect(listen)
    assert len(told) == 2
    del executor
    signals.task_postrun.connect(listen)
    signals.task_postrun.disconnect(listen)
    assert len(told) == 2, "an execution that is gone is forgotten"


def test_a_rejected_task_has_failed_for_whoever_waits(app: Any, core: Any) -> None:
    seen: list[BaseException] = []

    def listen(exception: BaseException, **_: Any) -> None:
        seen.append(exception)

    rejection = Reject("no")
    make(app, failing(rejection))
    signals.task_failure.connect(listen)
    try:
        ended = run(app, core)
    finally:
        signals.task_failure.disconnect(listen)
    assert seen == [rejection]
    assert ended.result["exc_type"] == "Reject" and ended.result["exc_message"] == ["no", False]


_KILLED = {
    "exc_type": "TimeLimitExceeded",
    "exc_message": [3],
    "exc_module": "billiard.exceptions",
    "state": "FAILURE",
}


def test_an_end_that_the_worker_decided_is_told_and_the_task_not_run(app: Any, core: Any) -> None:
    ran: list[Any] = []
    app.task(name="err")(lambda request, exc, tb: ran.append(("errback", request.id, type(exc))))
    made = app.task(name="t", base=Recorder, autoretry_for=(Exception,))(lambda: ran.append("run"))
    signature = {"task": "err", "args": [], "kwargs": {}, "options": {}, "subtask_type": None}
    chain = [{**signature, "options": {"task_id": "next"}}]
    request = core.Request(
        id="i", task="t", args=[], errbacks=[{**signature, "immutable": False}], chain=chain
    )
    app.executor.handle_ended(app.executor.plan("t"), request, [], {}, _KILLED)
    assert [name for name, *_ in made.ran] == ["on_failure", "after_return"]
    assert ran == [("errback", "i", TimeLimitExceeded)]
    request.store_ended(app.backend)
    assert app.backend.documents["next"]["status"] == "FAILURE"
    assert get_request() is None


def test_an_expired_task_revokes_the_rest_of_its_chain_and_has_not_failed(
    app: Any, core: Any
) -> None:
    ran: list[str] = []
    app.task(name="err")(lambda task_id: ran.append(task_id))
    made = app.task(name="t", base=Recorder)(lambda: None)
    signature = {"task": "err", "args": [], "kwargs": {}, "options": {"task_id": "next"}}
    end = {
        **_KILLED,
        "exc_type": "TaskRevokedError",
        "exc_message": ["expired"],
        "state": "REVOKED",
    }
    request = core.Request(id="i", task="t", args=[], errbacks=[signature], chain=[signature])
    app.executor.handle_ended(app.executor.plan("t"), request, [], {}, end)
    assert not made.ran and not ran
    request.store_ended(app.backend)
    assert app.backend.documents["next"]["status"] == "REVOKED"


def test_who_wants_to_know_of_failures(app: Any, core: Any) -> None:
    plain = app.task(lambda: 1, name="a")
    hooked = app.task(lambda: 1, name="b", base=Recorder)
    kind = app.task(name="c", on_success=lambda *_: None)(lambda: 1)
    hears = app.executor.has_failure_handlers
    assert [hears(task) for task in (plain, hooked, kind)] == [False, True, False]

    def listen(**_: Any) -> None: ...

    signals.task_failure.connect(listen)
    try:
        assert hears(plain)
    finally:
        signals.task_failure.disconnect(listen)


@pytest.mark.parametrize(
    ("value", "ignored", "hooks"),
    [
        (object(), False, ["on_failure", "after_return"]),
        ([object()], False, ["on_failure", "after_return"]),
        ([1, "x"], False, ["on_success", "after_return"]),
        (object(), True, ["on_success", "after_return"]),
    ],
    ids=["bad", "bad inside", "good", "unwanted"],
)
def test_a_result_that_cannot_be_written_is_no_success(
    app: Any, core: Any, value: Any, ignored: bool, hooks: list[str]
) -> None:
    made = app.task(name="t", base=Recorder)(lambda: value)
    run(app, core, ignore_result=ignored)
    assert [name for name, *_ in made.ran if name != "before_start"] == hooks


def test_the_run_time_is_told_with_success(app: Any, core: Any) -> None:
    seen: list[float] = []

    def listen(runtime: float, **_: Any) -> None:
        seen.append(runtime)

    make(app, lambda: 1)
    signals.task_success.connect(listen)
    try:
        run(app, core)
    finally:
        signals.task_success.disconnect(listen)
    assert len(seen) == 1 and 0 < seen[0] < 10


def test_what_has_succeeded_is_not_run_again_where_that_is_asked(app: Any, core: Any) -> None:
    ran: list[int] = []
    app.conf.worker_deduplicate_successful_tasks = True
    make(app, lambda: ran.append(1), acks_late=True)
    app.backend.put("i", "SUCCESS", 1)
    again = {"redelivered": True}
    for task_id, info, verdict in [
        ("i", again, outcome.IGNORE),
        ("i", {}, outcome.SUCCESS),
        ("another", again, outcome.SUCCESS),
    ]:
        request = core.Request(id=task_id, task="t", delivery_info=info)
        assert app.executor.run(app.executor.plan("t"), request, (), {}).verdict == verdict
    assert len(ran) == 2
    app.conf.worker_deduplicate_successful_tasks = False
    assert app.executor.plan("t").plain
