"""The short way of a chain's next step: the messages are those of the long way, or it is not
taken."""

from typing import Any

import pytest

from taskcore import Task
from taskcore.publishing import next_step

PLAIN: dict[str, Any] = {"task_id": "n", "reply_to": "r"}


class Long(Task[..., Any]):
    """Publishes its calls in a way of its own."""

    def apply_async(self, *args: Any, **options: Any) -> Any:
        return super().apply_async(*args, **options)


def step(**fields: Any) -> dict[str, Any]:
    shape = {"args": [], "kwargs": {}, "options": dict(PLAIN), "immutable": False}
    return {"task": "next", "subtask_type": None, **shape, **fields}


def publish(app: Any, core: Any, sig: dict[str, Any], **fields: Any) -> tuple[Any, ...]:
    """What a task with this next step leaves behind: messages, children, verdict."""
    app.publisher.sent.clear()
    chain = [step(options={"task_id": "last"}), sig]
    request = core.Request(id="i", task="t", root_id="root", chain=chain, **fields)
    ended = app.executor.run(app.executor.plan("t"), request, (), {})
    sent = [
        (template.task, list(args), kwargs, fields)
        for template, args, kwargs, fields in app.publisher.sent
    ]
    return sent, request.children, ended.verdict


def both_ways(
    app: Any, core: Any, monkeypatch: pytest.MonkeyPatch, sig: dict[str, Any], **fields: Any
) -> tuple[Any, Any, bool]:
    """By the short way, by the long one, and whether the short one was taken."""
    taken = []
    send_step = next_step.send_step

    def noting(*args: Any) -> bool:
        taken.append(send_step(*args))
        return taken[-1]

    with monkeypatch.context() as patch:
        patch.setattr("taskcore.execution.callbacks.send_step", noting)
        short = publish(app, core, sig, **fields)
    with monkeypatch.context() as patch:
        patch.setattr(core.Request, "only_chain", None)
        long = publish(app, core, sig, **fields)
    return short, long, any(taken)


def define(app: Any, **options: Any) -> None:
    app.task(lambda: 5, name="t")
    app.task(lambda *args, **kwargs: None, name="next", **options)


@pytest.mark.parametrize(
    "sig",
    [
        step(),
        step(args=[1], kwargs={"k": 2}),
        step(args=[1], immutable=True),
        step(options={"task_id": "n"}),
        step(options={"task_id": "n", "reply_to": None}),
        {"task": "next", "options": {"task_id": "n"}},
    ],
)
@pytest.mark.parametrize(
    "conf", [{}, {"task_inherit_parent_priority": True}, {"result_backend": None}]
)
@pytest.mark.parametrize("options", [{}, {"ignore_result": True}, {"queue": "q2", "time_limit": 3}])
def test_the_message_is_that_of_the_long_way(
    app: Any, core: Any, monkeypatch: pytest.MonkeyPatch, sig: Any, conf: Any, options: Any
) -> None:
    app.conf.update(conf)
    define(app, **options)
    info = {"exchange": "", "routing_key": "q", "priority": 7}
    short, long, taken = both_ways(app, core, monkeypatch, sig, delivery_info=info)
    assert taken and short == long and len(short[0]) == 1
    assert short[1] == ["n"]


@pytest.mark.parametrize(
    "sig",
    [
        step(options={}),
        step(options={**PLAIN, "queue": "q3"}),
        step(options={**PLAIN, "countdown": 5}),
        step(options={**PLAIN, "link": [step()]}),
        step(options={**PLAIN, "stamped_headers": ["s"], "s": 1}),
        step(task="elsewhere"),
    ],
)
def test_what_has_more_to_say_goes_the_long_way(
    app: Any, core: Any, monkeypatch: pytest.MonkeyPatch, sig: Any
) -> None:
    define(app)
    (sent, _, verdict), (_, _, long), taken = both_ways(app, core, monkeypatch, sig)
    assert not taken and len(sent) == 1 and verdict == long


@pytest.mark.parametrize("options", [{"expires": 60}, {"base": Long}])
def test_so_does_a_task_whose_calls_are_not_all_alike(
    app: Any, core: Any, monkeypatch: pytest.MonkeyPatch, options: Any
) -> None:
    define(app, **options)
    (sent, _, _), _, taken = both_ways(app, core, monkeypatch, step())
    assert not taken and len(sent) == 1


def test_so_does_what_a_stock_client_sent_or_has_callbacks(
    app: Any, core: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    define(app)
    for more in ({"origin": "gen1@host"}, {"callbacks": [step()]}):
        assert not both_ways(app, core, monkeypatch, step(), **more)[2]


def test_a_step_that_names_an_exchange_goes_there(
    app: Any, core: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    define(app)
    named = step(options={**PLAIN, "exchange": "x", "routing_key": "k"})
    (sent, _, _), _, taken = both_ways(app, core, monkeypatch, named)
    fields = sent[-1][3]
    assert not taken and (fields["exchange"], fields["routing_key"]) == ("x", "k")
