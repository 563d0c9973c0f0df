"""`apply_async` of a task and `send_task` of an app may be overridden or replaced; whatever is sent
then goes through them: calls, callbacks, retries, many at once."""

from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest

from taskcore import Task, Taskcore, current


class Tenant(Task[..., Any]):
    def apply_async(self, *args: Any, **options: Any) -> Any:
        options["headers"] = {**(options.get("headers") or {}), "tenant": 7}
        return super().apply_async(*args, **options)


class TenantApp(Taskcore):
    def send_task(self, *args: Any, **options: Any) -> Any:
        options["headers"] = {**(options.get("headers") or {}), "tenant": 7}
        return super().send_task(*args, **options)


@pytest.fixture(params=["task", "app"])
def made(request: pytest.FixtureRequest, core: Any) -> Iterator[Any]:
    """An app with a task `t`, of which one has an override."""
    before = current.get_app_or_none()
    make, base = (Taskcore, Tenant) if request.param == "task" else (TenantApp, Task)
    app = make("proj", broker="memory://", backend="memory://", task_cls=base)

    @app.task(name="t", bind=True, queue="own", default_retry_delay=5)
    def task(self: Any, end: str = "") -> None:
        if end == "retry":
            raise self.retry()
        if end == "fail":
            raise KeyError

    yield app
    current.set_app(before)


def run(app: Any, core: Any, args: tuple[Any, ...] = (), **fields: Any) -> None:
    request = core.Request(**{"id": "i", "task": "t", "args": list(args), **fields})
    app.executor.run(app.executor.plan("t"), request, args, {})


def headers(app: Any) -> list[Any]:
    return [fields.get("headers") for _, _, _, fields in app.publisher.sent]


def test_calls(made: Any) -> None:
    task = made.tasks["t"]
    task.delay()
    task.delay()
    task.s().delay()
    task.apply_many([()])
    made.send_many([task.s()])
    assert headers(made) == [{"tenant": 7}] * 5
    assert {template.fields["queue"] for template, *_ in made.publisher.sent} == {"own"}


def test_what_follows_a_call(made: Any, core: Any) -> None:
    sig = dict(made.tasks["t"].s())
    run(made, core, callbacks=[sig], chain=[sig])
    run(made, core, ("fail",), errbacks=[sig])
    assert headers(made) == [{"tenant": 7}] * 3


def test_a_retry_is_the_same_call(made: Any, core: Any) -> None:
    sig = dict(made.tasks["t"].s())
    request = core.Request(
        id="i",
        task="t",
        args=["retry"],
        root_id="r",
        callbacks=[sig],
        group="g",
        headers={"mine": 1},
        protocol="celery",
        expires="2999-01-01T00:00:00+00:00",
    )
    made.executor.run(made.executor.plan("t"), request, ("retry",), {})
    ((template, args, _, fields),) = request.following
    assert fields["headers"] == {"mine": 1, "tenant": 7}
    assert (fields["task_id"], fields["parent_id"], fields["root_id"]) == ("i", "i", "r")
    assert (args, fields["retries"], fields["group"]) == (["retry"], 1, "g")
    assert [dict(each) for each in fields["callbacks"]] == [sig]
    assert fields["eta"] < fields["expires"] == 32472144000
    assert template.fields["protocol"] == "celery"


def test_a_mock_is_called_although_delay_was_before(app: Any) -> None:
    task = app.task(lambda: None, name="t")
    task.delay()
    assert task._fast_path is not None
    with mock.patch.object(task, "apply_async") as call:
        task.delay()
    call.assert_called_once()
    with mock.patch.object(app, "send_task") as send:
        task.delay()
        task.apply_async(countdown=1)
    assert [call.args[0] for call in send.call_args_list] == ["t", "t"]
    before = len(app.publisher.sent)
    task.delay()
    task.delay()
    assert len(app.publisher.sent) == before + 2
    assert task._fast_path is not None
