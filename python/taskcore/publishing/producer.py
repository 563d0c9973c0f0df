"""The client's side of sending: from a task and the options of a call to the core's publisher.

Owns the templates (what all messages of a task share, made once and kept until the configuration
changes), the ids that tie a published task to the one that publishes it, and the publish
signals. It does not encode, connect or retry: that is the core's. Sending is synchronous and
confirmed; what is not confirmed within the deadline raises.
"""

from __future__ import annotations

import time
from contextvars import ContextVar

from taskcore import context, signals
from taskcore.exceptions import AlwaysEagerIgnored
from taskcore.publishing import call_options, trail
from taskcore.publishing.routing import Routing
from taskcore.results.async_result import AsyncResult, IgnoredResult
from taskcore.typed import TYPE_CHECKING
from taskcore.utils import warn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from taskcore.publishing.awaiting import Sender
    from taskcore.results.result_set import ResultSet
    from taskcore.task import Task


class Producer:
    """Sends for one app. Thread-safe: what it keeps can be made twice without harm."""

    def __init__(
        self, app: Any, publisher: Callable[[], Any], template: Callable[..., Any]
    ) -> None:
        self.app = app
        self.routing = Routing(app)
        self._make_publisher = publisher
        self._make_template = template
        self._publisher: Any = None
        self._templates: dict[tuple[Task[..., Any] | str, str], Any] = {}
        self._awaited: Sender | None = None
        self._called: ContextVar[tuple[Any, Any]] = ContextVar("called", default=(None, None))
        """Protocol and execution of what `call` sends; set by it, read by `send`."""

    # What is kept

    @property
    def publisher(self) -> Any:
        """The core's publisher; it connects on first use."""
        publisher = self._publisher
        if publisher is None:
            publisher = self._publisher = self._make_publisher()
        return publisher

    def template(self, target: Task[..., Any] | str, protocol: str | None = None) -> Any:
        """What all messages of a task, or of a bare task name, share."""
        protocol = protocol or self.app.conf.protocol
        key = (target, protocol)
        template = self._templates.get(key)
        if template is None:
            fields = self._shared(target, protocol)
            template = self._make_template(_name(target), protocol=protocol, **fields)
            self._templates[key] = template
        return template

    def _shared(self, target: Task[..., Any] | str, protocol: str) -> dict[str, Any]:
        """The fields of a template."""
        options = {} if isinstance(target, str) else self._task_options(target, protocol)
        return {**self._defaults(protocol), **self.routing.shared(target, protocol), **options}

    def _defaults(self, protocol: str) -> dict[str, Any]:
        conf = self.app.conf
        return {
            "serializer": conf.default_serializer(protocol),
            "priority": conf["task_default_priority"] or 0,
            "compression": conf["task_compression"],
        }

    def _task_options(self, task: Task[..., Any], protocol: str) -> dict[str, Any]:
        own: dict[str, Any] = {
            "compression": task.compression,
        }
        for key in ("serializer", "priority", "time_limit", "soft_time_limit"):
            own[key] = vars(task).get(key, getattr(type(task), key))
        call_options.check_limits(task.soft_time_limit, task.time_limit)
        # Said aloud in Celery's messages; a compact one leaves it to the worker's own knowledge of
        # the task.
        own["ignore_result"] = bool(task.ignore_result) or (False if protocol == "celery" else None)
        return {key: value for key, value in own.items() if value is not None}

    def invalidate(self) -> None:
        """Drops what was derived from a configuration that has changed."""
        self._publisher = None
        self._templates = {}
        self.routing.invalidate()

    def invalidate_routes(self) -> None:
        """Drops what was derived from queues and routes that have changed."""
        self._templates = {}
        self.routing.invalidate()
        self.forget_short_paths()

    def invalidate_task(self, task: Task[..., Any]) -> None:
        """Drops what was derived from the options of a task."""
        task._fast_path = None
        self.routing.invalidate()
        for protocol in ("compact", "celery"):
            self._templates.pop((task, protocol), None)

    def forget_short_paths(self) -> None:
        """Has every task look anew at how its `delay` is to be sent."""
        for task in self.app.tasks.values():
            task._fast_path = None

    # One message

    def fields(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options of a call as fields of its message."""
        if not options:
            return {}
        return call_options.to_fields(options, time.time(), self.app.timezone)

    def send(
        self,
        target: Task[..., Any] | str,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        options: dict[str, Any],
    ) -> AsyncResult[Any]:
        """Sends one call."""
        parent = self.parent(options)
        fields, replies, make = self.complete(target, options, parent, (args, kwargs))
        task_id = self.deliver(target, args, kwargs, fields, *self._called.get())
        if options.get("add_to_parent", True):
            trail.add(self.app, parent, task_id)
        if not isinstance(target, str):
            self.has_short_path(target)
        reply_to = fields.get("reply_to") if replies else None
        return make(task_id, None, None, self.app, None, reply_to)

    @property
    def awaited(self) -> Sender:
        """What publishes for coroutines."""
        if self._awaited is None:
            from taskcore.publishing.awaiting import Sender

            self._awaited = Sender(self)
        return self._awaited

    def deliver(
        self,
        target: Task[..., Any] | str,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        fields: dict[str, Any],
        protocol: str | None = None,
        following: context.TaskRequest | None = None,
    ) -> str:
        """Publishes fields as they are, with the signals around; gives the task id.

        Args:
            following: the execution that the message follows. A worker publishes it with the
                outcome; here it is only encoded.
        """
        template = self.template(target, protocol)
        publish = self.publisher.publish
        if following is not None and not isinstance(following, context.LocalRequest):

            def publish(*message: Any) -> Any:
                return self.publisher.follow(following, *message)

        tells = self.app.conf["task_send_sent_event"]
        if signals.before_task_publish.receivers or signals.after_task_publish.receivers:
            sent = self.announce(target, args, kwargs, fields, protocol)
            task_id = str(publish(template, args, kwargs, fields))
            sent()
        else:
            task_id = str(publish(template, args, kwargs, fields or None))
        if tells:
            known = self._shared(target, protocol or self.app.conf.protocol)
            way = {
                key: fields.get(key, known.get(key)) for key in ("queue", "exchange", "routing_key")
            }
            self.app.events.sent(_name(target), task_id, (args, kwargs), fields, way)
        return task_id

    def follow_again(
        self,
        request: context.TaskRequest,
        task: Task[..., Any],
        args: Sequence[Any],
        kwargs: dict[str, Any],
        fields: dict[str, Any],
        protocol: str,
    ) -> None:
        """Has the message of `request` follow itself: nobody is told, because nobody called the
        task."""
        self.publisher.follow(request, self.template(task, protocol), args, kwargs, fields)

    def complete(
        self,
        target: Task[..., Any] | str,
        options: dict[str, Any],
        parent: context.TaskRequest | None,
        arguments: tuple[Sequence[Any], Mapping[str, Any]] = ((), {}),
        protocol: str | None = None,
    ) -> tuple[dict[str, Any], bool, type[AsyncResult[Any]]]:
        """The fields of a call: its options, those of its route and the task's, and the ids of the
        execution that publishes it; whether a result is awaited, and the class of what stands for
        it."""
        if not self.app.finalized:
            self.app.finalize()
        way = self.way(target, options, arguments, protocol)
        ignored = options.get("ignore_result")
        if not isinstance(target, str):
            if target.expires is not None and options.get("expires") is None:
                options["expires"] = target.expires
            if ignored is None:
                ignored = target.ignore_result
        fields = self.fields(options)
        fields.update(way)
        if not isinstance(target, str) and ("time_limit" in fields or "soft_time_limit" in fields):
            call_options.check_limits(
                fields.get("soft_time_limit", target.soft_time_limit),
                fields.get("time_limit", target.time_limit),
            )
        if parent is not None:
            fields.setdefault("parent_id", parent.id)
            fields.setdefault("root_id", parent.root_id)
            if "priority" not in fields:
                inherited = self.inherited_priority(parent)
                fields.update({"priority": inherited} if inherited is not None else {})
        results = self.app.results_or_none
        wanted = results is not None and not ignored
        if wanted and "reply_to" not in fields:
            fields["reply_to"] = results.reply_to
        return fields, wanted, IgnoredResult if ignored else AsyncResult

    def way(
        self,
        target: Task[..., Any] | str,
        options: dict[str, Any],
        arguments: tuple[Sequence[Any], Mapping[str, Any]],
        protocol: str | None = None,
    ) -> dict[str, Any]:
        """Where a call goes, as fields of its message; what its route says beside that is added to
        its options."""
        protocol = protocol or self._called.get()[0] or self.app.conf.protocol
        way, routed = self.routing.of_call(target, options, arguments, protocol)
        for name, value in routed.items():
            if options.get(name) is None:
                options[name] = value
        return way

    def inherited_priority(self, parent: context.TaskRequest) -> int | None:
        """The priority that a message takes over from the execution that publishes it."""
        if not self.app.conf["task_inherit_parent_priority"]:
            return None
        priority: int | None = (parent.to_dict().get("delivery_info") or {}).get("priority")
        return priority

    def parent(self, options: Mapping[str, Any]) -> context.TaskRequest | None:
        """The execution that publishes a call with these options; None where it does not matter."""
        known = options.get("root_id") and options.get("parent_id")
        told = options.get("add_to_parent", True)
        return context.get_parent_request() if told or not known else None

    def tell_group(self, parent: context.TaskRequest | None, group: Any) -> None:
        """Records a group, by its result, as a child of the execution that publishes it."""
        trail.add_group(self.app, parent, group)

    def announce(
        self,
        target: Task[..., Any] | str,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        fields: dict[str, Any],
        protocol: str | None = None,
    ) -> Callable[[], None]:
        """Sends the signal before a publish; gives what sends the one after it."""
        from taskcore.publishing.announce import announce

        defaults = self._shared(target, protocol or self.app.conf.protocol)
        return announce(_name(target), (args, kwargs), fields, defaults, self.app.timezone)

    def has_short_path(self, task: Task[..., Any]) -> bool:
        """Whether all calls of a task are published alike; gives it its short path then."""
        if task._fast_path is not None:
            return True
        # The short path of a task that another has replaced would outlive changes of the
        # configuration.
        registered = self.app.tasks.get(task.name) is task
        plain = task._has_plain_delay and not self.app.has_own_send
        conf = self.app.conf
        told = conf["task_always_eager"] or conf["task_send_sent_event"]
        alike = plain and registered and not told
        if alike and self.routing.is_static and not self.routing.rest(task):
            ignored = task.ignore_result
            replies = None if ignored else self.app.results_or_none
            task._fast_path = (
                task._check_arguments,
                self.publisher.publish,
                self.template(task),
                replies,
                IgnoredResult if ignored else AsyncResult,
                self.app,
            )
        return task._fast_path is not None

    def call(
        self,
        target: Task[..., Any] | str,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        options: dict[str, Any],
        protocol: str | None,
        following: context.TaskRequest | None,
    ) -> None:
        """Sends what follows an execution by the `apply_async` or `send_task` that the program has
        of its own."""
        if "chain" in options:
            options = {**options, "chain": context.opened(options["chain"])}
        with self.following(following, protocol):
            if isinstance(target, str):
                self.app.send_task(target, args, kwargs, **options)
            else:
                target.apply_async(args, kwargs, **options)

    def following(self, request: context.TaskRequest | None, protocol: str | None) -> Following:
        """Whatever is published inside, by a task or a signature, is left to the outcome of an
        execution, and goes in this protocol."""
        return Following(self._called, (protocol, request))

    def followed(self) -> context.TaskRequest | None:
        """The execution of `following`, if any."""
        request: context.TaskRequest | None = self._called.get()[1]
        return request

    def promise(
        self, name: str, task_id: str, options: Mapping[str, Any]
    ) -> tuple[AsyncResult[Any], str | None]:
        """What stands for the result of a call that is sent later, and the reply id to send it
        with."""
        task = self.app.tasks.get(name)
        ignored = options.get("ignore_result")
        if ignored is None and task is not None:
            ignored = task.ignore_result
        results, reply_to = self.app.results_or_none, options.get("reply_to")
        if reply_to is None and results is not None and not ignored:
            reply_to = results.reply_to
        make = IgnoredResult if ignored else AsyncResult
        return make(task_id, None, None, self.app, None, reply_to), reply_to

    def send_callback(
        self,
        name: str,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        options: dict[str, Any],
        protocol: str | None,
    ) -> None:
        """Sends what follows the current execution by its message: a callback, an error callback, a
        chain's next step. It leaves with the outcome of the execution.

        It goes in the protocol of that message, because its sender may be a stock client whose
        workers must read it.
        """
        target = self.app.tasks.get(name) or name
        known = call_options.NAMES.union(options.get("stamped_headers") or ())
        parent = context.get_parent_request()
        if isinstance(parent, context.LocalRequest) and not isinstance(target, str):
            # Whoever runs a task here and now wants no messages from it.
            target.apply(args, kwargs, **{k: v for k, v in options.items() if k in known})
            return
        options = {k: v for k, v in options.items() if k in known}
        if self.app.has_own_send or (not isinstance(target, str) and target.has_own_call):
            self.call(target, args, kwargs, options, protocol, parent)
            return
        fields, _, _ = self.complete(target, options, None, (args, kwargs), protocol)
        task_id = self.deliver(target, args, kwargs, fields, protocol, parent)
        if options.get("add_to_parent", True):
            trail.add(self.app, parent, task_id)

    # Many messages

    def send_calls(
        self, task: Task[..., Any], calls: Iterable[Sequence[Any]], options: dict[str, Any]
    ) -> ResultSet[Any]:
        """Sends one call per item with the same options, pipelined."""
        from taskcore.publishing import many

        return many.send_calls(self, task, calls, options)

    def send_each(
        self,
        calls: Iterable[tuple[Task[..., Any] | str, Sequence[Any], dict[str, Any], dict[str, Any]]],
    ) -> ResultSet[Any]:
        """Sends different calls, pipelined."""
        from taskcore.publishing import many

        return many.send_each(self, calls)

    def send_workflow(self, calls: Iterable[Any]) -> Callable[[int], AsyncResult[Any]]:
        """Sends the calls of a workflow, pipelined; see `many.send_workflow`."""
        from taskcore.publishing import many

        return many.send_workflow(self, calls)


class Following:
    """The context of `Producer.following`."""

    __slots__ = ("_called", "_token", "_value")

    def __init__(self, called: ContextVar[tuple[Any, Any]], value: tuple[Any, Any]) -> None:
        self._called, self._value = called, value

    def __enter__(self) -> None:
        self._token = self._called.set(self._value)

    def __exit__(self, *exc_info: object) -> None:
        self._called.reset(self._token)


def warn_eager(name: str) -> None:
    """Says that `send_task` publishes although tasks are eager."""
    text = f"task_always_eager has no effect on send_task(`{name}`): the message is published"
    warn(text, AlwaysEagerIgnored)


def _name(target: Task[..., Any] | str) -> str:
    return target if isinstance(target, str) else target.name
