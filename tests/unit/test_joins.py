"""What follows a chord: its body with the results, or the end of all that would have followed."""

from typing import Any

import pytest

from taskcore import Task, signals

CAUSE = {"exc_type": "ValueError", "exc_message": ["x", 1], "exc_module": "builtins"}


def sig(task: str, task_id: str | None = None, **options: Any) -> dict[str, Any]:
    options = {"task_id": task_id, **options} if task_id else options
    return {"task": task, "args": [], "kwargs": {}, "options": options, "subtask_type": None}


def composed(kind: str, task_id: str, *members: Any, **options: Any) -> dict[str, Any]:
    made = sig(f"celery.{kind}", task_id, **options)
    return {**made, "kwargs": {"tasks": list(members)}, "subtask_type": kind}


def member(core: Any, chord: Any, **fields: Any) -> Any:
    return core.Request(id="m", task="t", group="g", root_id="r", chord=chord, **fields)


def test_the_body_is_published_with_the_results_and_the_ids_of_the_last_member(
    app: Any, core: Any
) -> None:
    request = member(core, sig("body", "b", priority=3))
    app.executor.publish_body(request, "g", "results")
    ((template, args, _, fields),) = request.following
    assert (template.task, args, fields["task_id"]) == ("body", ["results"], "b")
    assert (fields["parent_id"], fields["root_id"], fields["priority"]) == ("m", "r", 3)


def test_code_of_the_users_sees_the_results_and_no_text_in_their_place(app: Any, core: Any) -> None:
    def receive(**_: Any) -> None: ...

    class Own(Task[..., Any]):
        def apply_async(self, *args: Any, **options: Any) -> Any:
            return super().apply_async(*args, **options)

    @app.task(name="own", base=Own)
    def own(values: list[int]) -> None: ...

    for body in (sig("own", "b"), composed("chain", "c", sig("own", "c1"))):
        request = member(core, body)
        assert not app.executor.publish_body(request, "g", "results")
        assert not request.following
    request = member(core, sig("body", "b"))
    signals.before_task_publish.connect(receive)
    try:
        assert not app.executor.publish_body(request, "g", "results")
    finally:
        signals.before_task_publish.disconnect(receive)
    assert app.executor.publish_body(request, "g", "results")
    assert len(request.following) == 1


def test_the_body_may_be_that_of_a_task_that_was_to_come(app: Any, core: Any) -> None:
    last = sig("t", "last", chord=sig("body", "b"), group_id="g2", group_index=0)
    request = core.Request(id="i", task="t", group="g", chain=[last, sig("t", "next")])
    app.executor.publish_body(request, "g2", [1])
    assert request.following[0][0].task == "body"
    # The body of a body's chord.
    outer = sig("inner", "in", chord=sig("outer", "out"), group_id="g3", group_index=1)
    request = member(core, outer)
    app.executor.publish_body(request, "g3", [1])
    assert request.following[0][0].task == "outer"


@pytest.mark.parametrize("chord", [None, 5, "text", {"no": "task"}, {"task": ["x"]}, []], ids=str)
def test_a_body_that_is_no_signature_is_an_error(app: Any, core: Any, chord: Any) -> None:
    for call, more in ((app.executor.publish_body, []), (app.executor.fail_body, (None, "why"))):
        with pytest.raises(ValueError, match=r"chord `g`"):
            call(member(core, chord), "g", more)


def test_a_failed_member_ends_the_body_and_what_is_in_it_and_after_it(app: Any, core: Any) -> None:
    last = sig("t", "c2", chord=sig("out"), group_id="outer")
    body = composed("chain", "c", sig("t", "c1"), last, chain=[sig("t", "after")])
    request = member(core, body)
    called, end = app.executor.fail_body(request, "g", ("m7", CAUSE))
    request.store_ended(app.backend)
    assert set(app.backend.documents) == {"c", "c1", "c2", "after"}
    told = app.backend.documents["after"]
    assert told["status"] == "FAILURE" and told["result"] == {
        "exc_type": "ChordError",
        "exc_message": ["Dependency m7 raised ValueError('x', 1)"],
        "exc_module": "celery.exceptions",
    }
    assert request.counted == [("c2", "outer", None)]
    assert not called and end["state"] == "FAILURE" and not request.following


def test_error_callbacks_are_published_with_the_id_of_the_body_or_called_by_a_child(
    app: Any, core: Any
) -> None:
    app.task(lambda request, exc, tb: None, name="new")
    app.task(lambda task_id: None, name="old")
    body = sig("body", "b", link_error=[sig("new"), sig("old"), sig("elsewhere")])
    request = member(core, body)
    called, _ = app.executor.fail_body(request, "g", (None, "it is too large"))
    sent = [(one[0].task, one[1], one[3].get("task_id")) for one in request.following]
    assert [one[:2] for one in sent[:2]] == [("old", ["b"]), ("elsewhere", ["b"])]
    # A message for its error callbacks alone.
    assert (sent[2][0], called) == ("body", ["b"]) and sent[2][2] == "b"
    assert request.following[2][3]["errbacks"] == [sig("new")]
    request.store_ended(app.backend)
    why = app.backend.documents["b"]["result"]["exc_message"]
    assert why == ["The body cannot be called: it is too large"]


def test_a_child_calls_the_error_callbacks_and_nothing_else(app: Any, core: Any) -> None:
    ran: list[Any] = []
    app.task(lambda request, exc, tb: ran.append((request.id, str(exc))), name="new")
    request = core.Request(id="b", task="new", args=[], errbacks=[sig("new")])
    end = {
        "exc_type": "ChordError",
        "exc_message": ["why"],
        "exc_module": "celery.exceptions",
        "state": "FAILURE",
        "errbacks": True,
    }
    app.executor.handle_ended(app.executor.plan("new"), request, [], {}, end)
    assert ran == [("b", "why")]


def test_each_task_of_a_group_is_heard_of(app: Any, core: Any) -> None:
    members = [sig("t", f"m{n}", link_error=[sig("told")]) for n in range(2)]
    request = member(core, composed("group", "gr", *members))
    app.executor.fail_body(request, "g", ("m7", CAUSE))
    assert [one[1] for one in request.following] == [["m0"], ["m1"]]
