"""The body of a task, and how it and the options come to be: from the function, the decorator, the
configuration."""

from __future__ import annotations

from types import FunctionType, MethodType

from taskcore.publishing import argument_check
from taskcore.task.options import TaskOptions
from taskcore.typed import TYPE_CHECKING, Any, Callable, Mapping

if TYPE_CHECKING:
    from taskcore.task.models import Models

_OF_FUNCTION = ("__module__", "__doc__", "__name__", "__qualname__")


class TaskBody(TaskOptions):
    """What the app does with a task."""

    _bound = False
    if TYPE_CHECKING:
        _check_arguments: Callable[..., object] | None
        _app: Any
        _models: Models | None
    _check_arguments = _app = _models = None

    def bind(
        self, app: Any, name: str, fun: Callable[..., Any] | None = None, bound: bool = False
    ) -> None:
        """Ties the task to an app, under a name, and to the function that is its body. Called once,
        by the app."""
        self._app, self.name, self._bound = app, name, bound
        if fun is not None:
            # `run` is the function itself, not a method around it: nothing stands between the
            # worker and user code.
            self.run = fun.__get__(self) if bound else fun
            self.__wrapped__ = self.run
            for attribute in _OF_FUNCTION:
                setattr(self, attribute, getattr(fun, attribute, None))
            self.__annotations__ = getattr(fun, "__annotations__", {})
        self._set_body()

    def _set_body(self) -> None:
        """Derives from `run` what the options say about it."""
        run = vars(self).get("__wrapped__", self.run) if self._models is not None else self.run
        self._check_arguments = argument_check.checker(run) if self.typing else None
        self._models = None
        if self.pydantic:
            from taskcore.task.models import Models

            self.__wrapped__ = run
            self._models = Models(self, run)
            object.__setattr__(self, "run", self._models.wrap())
        elif run is not self.run:
            object.__setattr__(self, "run", run)

    def set_options(self, options: Mapping[str, Any]) -> None:
        """Sets the options of the decorator, and attributes of the user's own; a function becomes a
        method, as it would in a class."""
        for key, value in options.items():
            if isinstance(value, staticmethod):
                value = value.__func__
            elif isinstance(value, FunctionType) and key != "run":
                value = MethodType(value, self)
            setattr(self, key, value)

    def add_around(self, attr: str, around: Callable[[Any], Any]) -> None:
        """Wraps a method of this task, as `"@run"` does in `task_annotations`.

        Args:
            attr: name of the method; `__call__` is given the task as its first argument.
            around: called with the method, gives what is called in its place.
        Raises:
            AttributeError: there is no such method.
        """
        if attr == "__call__":
            cls = type(self)
            before = getattr(cls, "_called_as", cls.__call__)
            own = {"__call__": around(before), "_called_as": staticmethod(before)}
            self.__class__ = type(cls.__name__, (cls,), {**own, "__module__": cls.__module__})
            if self._registered:
                self._options_changed(attr)
            return
        before = getattr(self, attr)
        before = getattr(before, "_taskcore_around", before)
        made = around(before)
        vars(made)["_taskcore_around"] = before
        setattr(self, attr, made)

    def _options_changed(self, name: str) -> None:
        if name == "run":
            vars(self).pop("__wrapped__", None)
            self._models = None
        if name in ("run", "typing") or name.startswith("pydantic"):
            self._set_body()
        self._app.producer.invalidate_task(self)
        self._app.invalidate_plans()
