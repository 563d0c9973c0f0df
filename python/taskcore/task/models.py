"""Tasks with `pydantic=True`: arguments that are annotated with a model are validated where the
task runs, and models are sent as what their `model_dump` gives.

Pydantic is imported when such a task is registered, by nobody else.
"""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

from taskcore.exceptions import ImproperlyConfigured

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Models:
    """The models of one task: of its parameters, and of what it returns.

    Args:
        task: its options `pydantic_strict`, `pydantic_context` and `pydantic_dump_kwargs` apply.
        run: the body.
    Raises:
        ImproperlyConfigured: pydantic is not installed.
    """

    def __init__(self, task: Any, run: Callable[..., Any]) -> None:
        try:
            self._base = import_module("pydantic").BaseModel
        except ModuleNotFoundError as exc:
            raise ImproperlyConfigured(
                f"task `{task.name}` has `pydantic=True`, and pydantic is not installed: "
                "`pip install pydantic`"
            ) from exc
        self._run = run
        self._strict = bool(task.pydantic_strict)
        named = {"celery_app": task.app, "celery_task_name": task.name}
        self._context = {**(task.pydantic_context or {}), **named}
        self._dump_kwargs = {"mode": "json", **(task.pydantic_dump_kwargs or {})}
        self._signature = inspect.signature(run)
        hints = _hints(run)
        self._models = {
            name: model
            for name, parameter in self._signature.parameters.items()
            if parameter.kind not in _VARIADIC
            and (model := self._model(hints.get(name, parameter.annotation))) is not None
        }
        self._returned = self._model(hints.get("return", self._signature.return_annotation))

    def wrap(self) -> Callable[..., Any]:
        """The body with its arguments validated and its value dumped."""
        run = self._run
        if inspect.iscoroutinefunction(run):

            @functools.wraps(run)
            async def validated_coroutine(*args: Any, **kwargs: Any) -> Any:
                bound = self._validate(args, kwargs)
                return self._dump_value(await run(*bound.args, **bound.kwargs))

            return validated_coroutine

        @functools.wraps(run)
        def validated(*args: Any, **kwargs: Any) -> Any:
            bound = self._validate(args, kwargs)
            return self._dump_value(run(*bound.args, **bound.kwargs))

        return validated

    def dump(
        self, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[list[Any], dict[str, Any]]:
        """Arguments of a call, as they can be sent: a model is dumped where its parameter is annotated
        with its class; another one is left to the serializer."""
        positions = [
            name
            for name, parameter in self._signature.parameters.items()
            if parameter.kind is not inspect.Parameter.KEYWORD_ONLY
            and parameter.kind not in _VARIADIC
        ]
        names = [*positions, *[""] * max(0, len(args) - len(positions))]
        return (
            [self._dump_argument(name, value) for name, value in zip(names, args, strict=False)],
            {name: self._dump_argument(name, value) for name, value in kwargs.items()},
        )

    def _model(self, annotation: Any) -> Any:
        """The model that an annotation means; `Model | None` means `Model`. None: it means none."""
        if typing.get_origin(annotation) in (typing.Union, types.UnionType):
            members = [one for one in typing.get_args(annotation) if one is not type(None)]
            annotation = members[0] if len(members) == 1 else None
        is_model = isinstance(annotation, type) and issubclass(annotation, self._base)
        return annotation if is_model else None

    def _validate(self, args: Any, kwargs: Any) -> inspect.BoundArguments:
        bound = self._signature.bind(*args, **kwargs)
        for name, value in bound.arguments.items():
            model = self._models.get(name)
            if model is not None and value is not None:
                bound.arguments[name] = model.model_validate(
                    value, strict=self._strict, context=self._context
                )
        return bound

    def _dump_value(self, value: Any) -> Any:
        if self._returned is not None and isinstance(value, self._returned):
            return value.model_dump(**self._dump_kwargs)
        return value

    def _dump_argument(self, name: str, value: Any) -> Any:
        model = self._models.get(name)
        if model is None or type(value) is not model or hasattr(model, "__json__"):
            return value
        return value.model_dump(**self._dump_kwargs)


def _hints(run: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(run)
    except (NameError, AttributeError, TypeError):
        return {}  # names that only a type checker sees
