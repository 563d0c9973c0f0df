"""Classes that belong to an app, for libraries that make theirs of it."""

from __future__ import annotations

from typing import Any

from taskcore import current
from taskcore.utils import symbol_by_name


def subclass_with_app(app: Any, cls: Any, options: dict[str, Any]) -> type:
    """A subclass of `cls` with the app in an attribute; see `app.subclass_with_self`."""
    parent = symbol_by_name(cls) if isinstance(cls, str) else cls
    name = options.pop("name", None) or parent.__name__
    attribute = options.pop("attribute", "app")
    path = options.pop("reverse", None) or parent.__name__
    members = {attribute: app, "__module__": parent.__module__, "__doc__": parent.__doc__}
    if not options.pop("keep_reduce", False):
        members["__reduce__"] = lambda self: (_restored, (path, self.__reduce_args__()))
    return type(name, (parent,), {**members, **options})


def _restored(path: str, args: tuple[Any, ...]) -> Any:
    """An instance from a pickle: made by what the current app has at `path`."""
    made: Any = current.get_app()
    for name in path.split("."):
        made = getattr(made, name)
    return made(*args)
