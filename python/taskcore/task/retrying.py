"""`self.retry()`: the running call published again, and the exception that ends its execution."""

from __future__ import annotations

from taskcore import context
from taskcore.exceptions import MaxRetriesExceededError, OperationalError, Reject, Retry
from taskcore.publishing import call_options
from taskcore.publishing.routes import KEYS
from taskcore.task import retry as rules
from taskcore.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from taskcore.canvas import Signature
    from taskcore.task.task import Task


def retry(
    task: Task[..., Any],
    arguments: tuple[Sequence[Any] | None, Mapping[str, Any] | None],
    exc: BaseException | type[BaseException] | None,
    throw: bool,
    options: dict[str, Any],
) -> Retry:
    """Carries out `Task.retry`; see there.

    Args:
        arguments: positional and named ones, None for those of the running call.
        options: `eta`, `countdown`, `max_retries`, and those of `apply_async`.
    """
    exc = rules.as_exception(exc)
    request = context.get_request()
    if request is None or request.id is None or request.task != task.name:
        # Called directly: there is no message to publish again.
        raise exc or Retry(f"task `{task.name}` can be retried only while a worker executes it")
    if options["eta"] is None and options.get("countdown") is None:
        options["countdown"] = task.default_retry_delay
    carried = request.to_dict()
    args, kwargs = _arguments(task, carried, arguments)
    own_limit = options.pop("max_retries", None)
    limit = task.max_retries if own_limit is None else own_limit
    if limit is not None and request.retries >= limit:
        try:
            raise exc or MaxRetriesExceededError(
                f"cannot retry task `{task.name}` [{request.id}]: "
                f"it was retried {request.retries} times, the limit is {limit}",
                task_args=args,
                task_kwargs=kwargs,
            )
        except BaseException as ending:
            if own_limit is not None:
                ending.__dict__[rules.NO_MORE] = True
            raise
        finally:
            del exc
    when = options["eta"] if options.get("countdown") is None else options["countdown"]
    if carried.get("is_eager"):
        sig = _signature(task, carried, (args, kwargs), options)
        retry_exc = Retry(exc=exc, when=when, is_eager=True, sig=sig)
    else:
        _publish(task, carried, (args, kwargs), options, request if throw else None)
        request.add_child(request.id)
        retry_exc = Retry(exc=exc, when=when)
    try:
        if throw:
            raise retry_exc from exc
        return retry_exc
    finally:
        del retry_exc, exc  # or this frame, its exception and the request would keep each other


def _arguments(
    task: Task[..., Any],
    carried: Mapping[str, Any],
    arguments: tuple[Sequence[Any] | None, Mapping[str, Any] | None],
) -> tuple[Sequence[Any], Mapping[str, Any]]:
    args, kwargs = arguments
    if args is not None:
        args = call_options.to_args(task.name, args)
    if kwargs is not None:
        kwargs = call_options.to_kwargs(task.name, kwargs)
    return rules.arguments(task.run, (carried["args"], carried["kwargs"]), args, kwargs)


def _signature(
    task: Task[..., Any],
    carried: Mapping[str, Any],
    arguments: tuple[Sequence[Any], Mapping[str, Any]],
    options: Mapping[str, Any],
) -> Signature:
    """What `task.apply` runs again, at once."""
    from taskcore.canvas import Signature

    own = {name: value for name, value in options.items() if name not in ("eta", "countdown")}
    again = {**rules.eager(carried), **own, "task_id": carried["id"]}
    return Signature(task, *arguments, again)


def _publish(
    task: Task[..., Any],
    carried: Mapping[str, Any],
    arguments: tuple[Sequence[Any], Mapping[str, Any]],
    options: Mapping[str, Any],
    following: context.TaskRequest | None,
) -> None:
    """Publishes the call again: with the outcome of `following`, or else at once."""
    producer = task.app.producer
    fields = {**rules.carried(carried), **producer.fields({"countdown": None, **options})}
    protocol = rules.protocol_of(carried)
    if any(options.get(key) is not None for key in KEYS):
        way, _ = producer.routing.of_call(task, options, arguments, protocol)
        fields.update(way)
    try:
        if task.has_own_call or task.app.has_own_send:
            producer.call(task, *arguments, rules.as_options(fields), protocol, following)
        else:
            producer.deliver(task, *arguments, fields, protocol, following)
    except OperationalError as failed:
        if task.acks_late:
            # The message is still the broker's: putting it back loses nothing. DIFFERENCE: Celery
            # drops it.
            raise Reject(failed, requeue=True) from failed
        raise
