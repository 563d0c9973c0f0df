"""`task_annotations`: what the configuration says about tasks, over what they say themselves.

Each annotation is a dict of task name (or `*`, for all) to options, or an object with the methods
`annotate(task)` and `annotate_any()`, which return dicts of options. An option that begins with `@`
names a method and gives what wraps it.
"""

from __future__ import annotations

from taskcore.exceptions import ImproperlyConfigured
from taskcore.task.options import check_names, check_values
from taskcore.typed import TYPE_CHECKING
from taskcore.utils import is_mapping, symbol_by_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any


def apply(app: Any, task: Any, check: Callable[[Any], object]) -> None:
    """Sets what is said about a task, what is said of it by name last.

    Args:
        check: called with the task after each change.
    Raises:
        ImproperlyConfigured: a wrong value, or an option that this version does not have.
    """
    for annotation in app.conf["task_annotations"] or ():
        for said, options in _said(annotation, task):
            try:
                for name, value in options.items():
                    if name.startswith("@"):
                        task.add_around(name[1:], value)
                plain = {name: value for name, value in options.items() if name[:1] != "@"}
                check_names(plain, type(task))
                task.set_options(plain)
                check_values(task)
                check(task)
            except (TypeError, ValueError, AttributeError) as exc:
                raise ImproperlyConfigured(f"task_annotations for {said}: {exc}") from exc


def _said(annotation: Any, task: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Whom a part of the annotation is for, in words, with its options."""
    if is_mapping(annotation):
        for name in ("*", task.name):
            yield f"`{name}`", annotation.get(name, {})
        return
    if isinstance(annotation, str):
        try:
            annotation = symbol_by_name(annotation)()
        except (ImportError, AttributeError, ValueError) as exc:
            raise ImproperlyConfigured(
                f"task_annotations names `{annotation}`: expected `module:class` ({exc})"
            ) from exc
    elif isinstance(annotation, type):
        annotation = annotation()
    for method, args in (("annotate_any", ()), ("annotate", (task,))):
        if hasattr(annotation, method):
            yield f"`{task.name}`", getattr(annotation, method)(*args) or {}
