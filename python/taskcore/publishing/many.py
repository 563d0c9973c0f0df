"""Many messages in few round trips: calls of one task, different calls, the calls of a workflow.

What follows an execution (`Producer.following`) is not sent here but left to its outcome, message
by message; so are calls that the program sends in a way of its own.
"""

from __future__ import annotations

from taskcore import context, signals
from taskcore.publishing import call_options, trail
from taskcore.results.async_result import AsyncResult, IgnoredResult
from taskcore.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any

    from taskcore.publishing.producer import Producer
    from taskcore.results.result_set import ResultSet
    from taskcore.task import Task

_ONE_BY_ONE = ("task_id",)


def send_calls(
    producer: Producer,
    task: Task[..., Any],
    calls: Iterable[Sequence[Any]],
    options: dict[str, Any],
) -> ResultSet[Any]:
    """Sends one call per item with the same options, pipelined."""
    from taskcore.results.result_set import ResultSet

    app = producer.app
    for name in _ONE_BY_ONE:
        if options.get(name) is not None:
            raise TypeError(f"option `{name}` cannot be the same for many calls: leave it out")
    own = task.has_own_call or app.has_own_send
    if own or app.conf["task_always_eager"]:
        return ResultSet([task.apply_async(args, **options) for args in calls], app)
    checked = (call_options.to_args(task.name, args) for args in calls)
    watched = signals.before_task_publish.receivers or signals.after_task_publish.receivers
    if watched or not producer.routing.is_static:
        return send_each(producer, ((task, args, {}, dict(options)) for args in checked))
    parent = producer.parent(options)
    fields, replies, make = producer.complete(task, options, parent)
    ids = producer.publisher.publish_many(
        producer.template(task), checked, fields or None, task._check_arguments
    )
    if parent is not None and options.get("add_to_parent", True):
        for task_id in ids:
            trail.add(app, parent, task_id)
    return ResultSet(ids, app, reply_to=fields.get("reply_to") if replies else None, make=make)


def send_each(
    producer: Producer,
    calls: Iterable[tuple[Task[..., Any] | str, Sequence[Any], dict[str, Any], dict[str, Any]]],
) -> ResultSet[Any]:
    """Sends different calls, pipelined."""
    from taskcore.results.result_set import ResultSet

    made = _Made(producer)
    made.send((target, args, kwargs, options, None) for target, args, kwargs, options in calls)
    results = producer.app.results_or_none
    return ResultSet(
        [made.result(i) if i in made.ignored else task_id for i, task_id in enumerate(made.ids)]
        if made.ignored
        else made.ids,
        producer.app,
        reply_to=results.reply_to if results is not None else None,
    )


def send_workflow(producer: Producer, calls: Iterable[Any]) -> Callable[[int], AsyncResult[Any]]:
    """Sends the calls of a workflow, each a task's name, arguments, options, and its place in a
    group where it shares its options with the calls around it; gives the result of each by its
    number. A call is not sent before the one after it was asked for."""
    app = producer.app
    following = producer.followed()
    known = ((app.tasks.get(call[0]) or call[0], *call[1:]) for call in calls)
    if following is None and not app.has_own_send:
        if any(task.has_own_call for task in app.tasks.values()):
            return _send_parts(producer, known)
        made = _Made(producer)
        made.send(known)
        return made.result
    results = []
    for target, args, kwargs, options, index in _ahead(known):
        options = dict(options) if index is None else {**options, "group_index": index}
        if following is not None:
            # A message says what it likes; what is no option here is left out.
            names = call_options.NAMES.union(options.get("stamped_headers") or ())
            options = {k: v for k, v in options.items() if k in names}
        if app.has_own_send or isinstance(target, str):
            name = target if isinstance(target, str) else target.name
            results.append(app.send_task(name, args, kwargs, **options))
        elif _has_own_call(target):
            results.append(target.apply_async(args, kwargs, **options))
        else:
            results.append(producer.send(target, args, kwargs, options))
    return results.__getitem__


def _send_parts(producer: Producer, calls: Iterable[Any]) -> Callable[[int], AsyncResult[Any]]:
    """Sends the calls of a workflow in which tasks may have a call of their own: those by it, and
    what is between them pipelined."""
    from itertools import groupby

    results: list[Any] = []
    for is_own, part in groupby(calls, lambda call: _has_own_call(call[0])):
        if not is_own:
            made = _Made(producer)
            made.send(part)
            results += map(made.result, range(len(made.ids)))
            continue
        for task, args, kwargs, options, index in _ahead(part):
            options = dict(options) if index is None else {**options, "group_index": index}
            results.append(task.apply_async(args, kwargs, **options))
    return results.__getitem__


def _has_own_call(target: Any) -> bool:
    return not isinstance(target, str) and target.has_own_call


def _ahead(calls: Iterable[Any]) -> Iterator[Any]:
    """The calls, each when the one after it is known."""
    held = None
    for call in calls:
        if held is not None:
            yield held
        held = call
    if held is not None:
        yield held


class _Made:
    """What is kept of each call until all are sent."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer
        self.ids: list[str] = []
        self.ignored: set[int] = set()
        """Numbers of the calls whose results nobody wants."""
        self._children: list[tuple[context.TaskRequest, int]] = []
        """Executions that publish a call as their child, and its number."""
        self._after: list[Callable[[], None]] = []
        self._count = 0

    def send(self, calls: Iterable[Any]) -> None:
        """Sends them."""
        self.ids = self._producer.publisher.publish_each(self._messages(calls))
        for parent, number in self._children:
            trail.add(self._producer.app, parent, self.ids[number])
        for sent in self._after:
            sent()

    def result(self, number: int) -> AsyncResult[Any]:
        """The result of a call."""
        app = self._producer.app
        if number in self.ignored:
            return IgnoredResult(self.ids[number], None, None, app)
        results = app.results_or_none
        reply_to = None if results is None else results.reply_to
        return AsyncResult(self.ids[number], None, None, app, None, reply_to)

    def _messages(self, calls: Iterable[Any]) -> Iterator[Any]:
        producer = self._producer
        watched = signals.before_task_publish.receivers or signals.after_task_publish.receivers
        static = producer.routing.is_static
        shared: Any = None
        prepared: dict[Any, Any] = {}
        for target, args, kwargs, options, index in calls:
            if not isinstance(target, str) and target._check_arguments is not None:
                target._check_arguments(*args, **kwargs)
            if index is None or not static:
                own = options if index is None else {**options, "group_index": index}
                entry = self._prepare(target, own, (args, kwargs))
                fields = entry[1]
            else:
                if options is not shared:
                    shared, prepared = options, {}
                found = prepared.get(target)
                entry = prepared[target] = found or self._prepare(
                    target, dict(options), (args, kwargs)
                )
                fields = {**entry[1], "group_index": index}
            template, _, parent, ignored = entry
            if watched:
                self._after.append(producer.announce(target, args, kwargs, fields))
            if ignored:
                self.ignored.add(self._count)
            if parent is not None:
                self._children.append((parent, self._count))
            self._count += 1
            yield template, args, kwargs, fields or None

    def _prepare(
        self, target: Any, options: dict[str, Any], arguments: tuple[Any, Any]
    ) -> tuple[Any, dict[str, Any], Any, bool]:
        producer = self._producer
        parent = producer.parent(options)
        fields, _, make = producer.complete(target, options, parent, arguments)
        told = parent if options.get("add_to_parent", True) else None
        return producer.template(target), fields, told, make is IgnoredResult
