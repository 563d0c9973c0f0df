"""What a project that was written for Celery says about its tasks."""

import asyncio
import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from taskcore import Task, Taskcore, current
from taskcore.context import reset_request, set_request
from taskcore.exceptions import NotSupportedError
from taskcore.worker.task_spec import make_task_spec


class Order(BaseModel):
    number: int
    due: dt.date | None = None


class Receipt(BaseModel):
    paid: bool


@pytest.fixture
def eager_app() -> Iterator[Any]:
    before = current.get_app_or_none()
    yield Taskcore("proj", broker="memory://words", backend="memory://words")
    current.set_app(before)


def last(app: Any) -> tuple[Any, list[Any], dict[str, Any], dict[str, Any]]:
    sent: tuple[Any, list[Any], dict[str, Any], dict[str, Any]] = app.publisher.sent[-1]
    return sent


def test_an_attribute_of_ones_own_is_kept_and_a_function_becomes_a_method(app: Any) -> None:
    @app.task(colour="red", describe=lambda self: f"{self.name} is {self.colour}")
    def paint() -> None: ...

    assert paint.colour == "red"
    assert paint.describe() == f"{paint.name} is red"


def test_a_shared_task_of_an_app_is_in_every_app(app: Any) -> None:
    other = Taskcore("other", broker="memory://", backend="memory://", set_as_current=False)
    app.task(name="everywhere", shared=True)(lambda: 1)
    app.task(name="only here")(lambda: 1)
    assert "everywhere" in other.tasks and "only here" not in other.tasks
    assert other.tasks["everywhere"].app is other
    current._Process.shared_tasks.pop()


def test_what_the_decorator_gives_is_what_the_filter_makes(app: Any) -> None:
    assert app.task(filter=lambda task: task.name, lazy=False, name="n")(lambda: 1) == "n"


def test_the_shadow_name_is_sent(app: Any) -> None:
    def shadow_name(self: Any, args: Any, kwargs: Any, options: Any) -> str:
        return f"{self.name} of {args[0]} {options.get('queue')}"

    class Named(Task[..., Any]):
        def shadow_name(self, args: Any, kwargs: Any, options: Any) -> str | None:
            return "from the class"

    by_option = app.task(name="a", shadow_name=shadow_name)(lambda x: x)
    by_class = app.task(name="b", base=Named)(lambda x: x)
    by_option.apply_async((5,), queue="q")
    assert last(app)[3]["shadow"] == "a of 5 q"
    by_class.delay(1)
    assert last(app)[3]["shadow"] == "from the class"
    by_class.apply_async((1,), shadow="of the call")
    assert last(app)[3]["shadow"] == "of the call"
    app.send_many([by_class.s(1)])
    assert last(app)[3]["shadow"] == "from the class"


def test_models_are_sent_as_data_validated_and_dumped(eager_app: Any) -> None:
    app = eager_app

    @app.task(pydantic=True, bind=True)
    def pay(self: Any, order: Order, again: Order | None = None, *, note: str = "") -> Receipt:
        assert isinstance(order, Order) and (again is None or isinstance(again, Order))
        return Receipt(paid=order.due is None)

    app.conf.task_always_eager = True
    assert pay.delay(Order(number=1)).get() == {"paid": True}
    assert pay.delay({"number": "1", "due": "2026-01-01"}, again=None).get() == {"paid": False}
    assert pay.delay(order={"number": 1}, again=Order(number=2)).get() == {"paid": True}
    with pytest.raises(ValueError, match="number"):
        pay.delay({"number": "many"}).get()
    with pytest.raises(TypeError):
        pay.delay()


def test_models_in_a_message_are_plain_data(app: Any) -> None:
    @app.task(pydantic=True, pydantic_dump_kwargs={"exclude_none": True})
    def pay(order: Order, *orders: Order) -> None: ...

    pay.delay(Order(number=1))
    assert last(app)[1] == [{"number": 1}]
    pay.apply_many([(Order(number=2),)])
    assert last(app)[1] == [{"number": 2}]
    pay.s(Order(number=3, due=dt.date(2026, 1, 2))).delay()
    assert last(app)[1] == [{"number": 3, "due": "2026-01-02"}]


def test_models_are_validated_as_strictly_as_is_asked(eager_app: Any) -> None:
    seen: list[Any] = []

    class Seen(BaseModel):
        def model_post_init(self, context: Any) -> None:
            seen.append(context)

    @eager_app.task(pydantic=True, pydantic_strict=True, name="strict")
    def strict(order: Order) -> None: ...

    @eager_app.task(pydantic=True, pydantic_context={"tenant": 7}, name="context")
    async def context(value: Seen) -> Receipt:
        return Receipt(paid=True)

    with pytest.raises(ValueError, match="number"):
        strict({"number": "1"})
    assert asyncio.run(context({})) == {"paid": True}
    assert seen == [{"tenant": 7, "celery_app": eager_app, "celery_task_name": "context"}]


def test_annotations_are_objects_classes_names_and_wrappers(app: Any) -> None:
    class Annotate:
        def annotate(self, task: Any) -> dict[str, Any] | None:
            return {"max_retries": 9} if task.name == "one" else None

        def annotate_any(self) -> dict[str, Any]:
            return {"rate_limit": "3/s"}

    one, two = app.task(lambda: 1, name="one"), app.task(lambda: 2, name="two")
    for given in (Annotate(), [Annotate], f"{__name__}:Annotate"):
        if isinstance(given, str):
            globals()["Annotate"] = Annotate
        app.conf.task_annotations = given
        assert (one.max_retries, one.rate_limit) == (9, "3/s")
        assert (two.max_retries, two.rate_limit) == (3, "3/s")


def test_an_annotation_wraps_methods_once(eager_app: Any) -> None:
    app = eager_app
    seen: list[str] = []

    def told(method: Any) -> Any:
        def around(*args: Any, **kwargs: Any) -> Any:
            seen.append("in")
            return method(*args, **kwargs) + 1

        return around

    add = app.task(lambda x: x, name="t")
    app.conf.task_annotations = {"t": {"@run": told}}
    app.conf.task_always_eager = True  # the annotations are applied again
    assert add.delay(1).get() == 2 and seen == ["in"]
    app.conf.task_annotations = {"t": {"@__call__": told}}
    app.conf.task_default_priority = 3
    add.run = lambda x: x
    assert add.delay(1).get() == 2 and seen == ["in", "in"]


def test_eager_results_are_stored_when_that_is_asked(eager_app: Any) -> None:
    app = eager_app
    app.conf.task_always_eager = True
    kept = app.task(lambda x: x, name="kept", store_eager_result=True)
    plain = app.task(lambda x: x, name="plain")
    dropped = app.task(lambda: 1, name="dropped", store_eager_result=True, ignore_result=True)

    @app.task(store_eager_result=True)
    def fail() -> None:
        raise ValueError("no")

    assert app.AsyncResult(kept.delay([1]).id).get(timeout=5) == [1]
    assert app.AsyncResult(plain.delay(1).id).state == "PENDING"
    assert app.AsyncResult(dropped.delay().id).state == "PENDING"
    failed = app.AsyncResult(fail.delay().id)
    assert failed.state == "FAILURE" and repr(failed.result) == "ValueError('no')"
    assert "ValueError: no" in failed.traceback
    app.conf.task_store_eager_result = True
    assert app.AsyncResult(plain.delay(2).id).get(timeout=5) == 2


def test_failures_and_timeouts_are_acknowledged_alike(app: Any) -> None:
    def spec(**options: Any) -> bool:
        task = app.task(name=repr(options), acks_late=True, **options)(lambda: 1)
        return make_task_spec(task).acks_on_failure_or_timeout

    assert spec() is True
    assert spec(acks_on_failure=False, acks_on_timeout=False) is False
    assert spec(acks_on_failure=True, acks_on_timeout=True, acks_on_failure_or_timeout=False)
    with pytest.raises(NotSupportedError, match="acks_on_failure_or_timeout"):
        spec(acks_on_failure=False)


def test_a_class_is_told_when_it_is_bound(app: Any) -> None:
    class Told(Task[..., Any]):
        def on_bound(self, app: Any) -> None:
            self.told = app

    assert app.task(base=Told)(lambda: 1).told is app


def test_a_result_is_recorded_and_a_signature_made_of_the_running_execution(
    app: Any, core: Any
) -> None:
    task = app.task(name="t", bind=True)(lambda self, x: x)
    silent = app.task(name="silent", bind=True, trail=False)(lambda self: None)
    request = core.Request(id="i", task="t", args=[1], kwargs={}, root_id="r", queue="q")
    token = set_request(request)
    try:
        found = app.AsyncResult("child")
        assert task.add_trail(found) is found
        assert silent.add_trail(found) is found
        sig = task.signature_from_request(args=(2,), countdown=5)
    finally:
        reset_request(token)
    assert request.children == ["child"]
    assert sig.args == (2,) and sig.options["queue"] == "q" and sig.options["countdown"] == 5
    assert sig.options["root_id"] == "r"
