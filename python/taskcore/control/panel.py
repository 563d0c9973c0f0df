"""Commands of the user's own: functions that a worker calls when it is asked by their name.

A command is called in a thread of the worker's process, one at a time, with the worker's `state` and
the arguments by name; what it returns is the reply. A request for a command that raises is answered
with the exception.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


class CommandInfo(NamedTuple):
    """What is known of a command."""

    alias: str | None
    type: str
    visible: bool
    default_timeout: float
    help: str
    signature: str | None
    args: list[tuple[str, Callable[[str], Any]]] | None
    variadic: str | None


class Panel:
    """The commands that were registered in this process, by name."""

    data: ClassVar[dict[str, Callable[..., Any]]] = {}
    meta: ClassVar[dict[str, CommandInfo]] = {}

    @classmethod
    def register(cls, *args: Any, **kwargs: Any) -> Any:
        """Makes a function a command; with or without options, see `control_command`."""
        if args:
            return cls._register(**kwargs)(*args)
        return cls._register(**kwargs)

    @classmethod
    def _register(
        cls,
        name: str | None = None,
        alias: str | None = None,
        type: str = "control",
        visible: bool = True,
        default_timeout: float = 1.0,
        help: str | None = None,
        signature: str | None = None,
        args: list[tuple[str, Callable[[str], Any]]] | None = None,
        variadic: str | None = None,
    ) -> Callable[[F], F]:
        def register(function: F) -> F:
            called = name or function.__name__
            text = help or (function.__doc__ or "").strip().split("\n")[0]
            cls.data[called] = function
            cls.meta[called] = CommandInfo(
                alias, type, visible, default_timeout, text, signature, args, variadic
            )
            if alias:
                cls.data[alias] = function
            return function

        return register


def control_command(**options: Any) -> Callable[[F], F]:
    """Decorates a command that changes something.

    Args:
        options: `name` (default: the function's), `alias`, `visible` (in the command line's list),
            `default_timeout` in seconds, `help`, and for the command line `args` (names and types of
            positional arguments), `variadic` (the name that takes the rest) and `signature` (how they
            are shown).
    """
    register: Callable[[F], F] = Panel.register(type="control", **options)
    return register


def inspect_command(**options: Any) -> Callable[[F], F]:
    """Decorates a command that only asks; options as of `control_command`."""
    register: Callable[[F], F] = Panel.register(type="inspect", **options)
    return register
