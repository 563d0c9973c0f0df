"""A call as the message that somebody else publishes: the broker's store, for a periodic task."""

from __future__ import annotations

from taskcore import signals
from taskcore.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def prepare(
    producer: Any, target: Any, args: list[Any], kwargs: dict[str, Any], options: dict[str, Any]
) -> tuple[tuple[Any, list[Any], dict[str, Any], dict[str, Any]], Callable[[], None] | None]:
    """The message of a call, and what sends the signal after its publish, if anybody hears it.

    Args:
        producer: the app's.
        target: a task, or the name of one.
    Raises:
        TypeError: an unknown option, or arguments that do not fit the function.
    """
    if not isinstance(target, str) and target._check_arguments is not None:
        target._check_arguments(*args, **kwargs)
    fields, _, _ = producer.complete(target, options, None, (args, kwargs))
    sent = None
    if signals.before_task_publish.receivers or signals.after_task_publish.receivers:
        sent = producer.announce(target, args, kwargs, fields)
    return (producer.template(target), args, kwargs, fields), sent
