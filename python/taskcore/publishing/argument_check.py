"""Whether arguments fit a function, decided as fast as a call.

`checker` makes, from the code object of a task's function, a function with the same parameters
that does nothing. Calling it with the arguments of a publish raises the interpreter's own
TypeError, naming the task's function, before anything is sent. Compared with binding an
`inspect.Signature` this costs a fiftieth, and `inspect` is not imported.
"""

from __future__ import annotations

from types import CodeType, FunctionType, MethodType

from taskcore.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

_FLAGS = 0x04 | 0x08  # *args, **kwargs


def _nothing() -> None:
    return None


def checker(fun: Callable[..., Any], bound: bool = False) -> Callable[..., object] | None:
    """A function with the parameters of `fun` that does nothing; None when they cannot be known.

    Args:
        bound: leave out the first parameter, which the task itself fills.
    """
    if isinstance(fun, MethodType):
        fun, bound = fun.__func__, True
    if not isinstance(fun, FunctionType):
        return _from_signature(fun)
    code = fun.__code__
    first = 1 if bound and code.co_argcount else 0
    if bound and not first and not code.co_flags & 0x04:
        raise TypeError(
            f"task function `{fun.__qualname__}` takes no argument for `self`: add one, or drop bind=True"
        )
    stub = FunctionType(_stub(code, first), {}, fun.__name__, _kept_defaults(fun, first))
    stub.__kwdefaults__ = fun.__kwdefaults__
    return stub


def _stub(code: CodeType, first: int) -> CodeType:
    count = code.co_argcount + code.co_kwonlyargcount
    count += sum(1 for flag in (0x04, 0x08) if code.co_flags & flag)
    names = code.co_varnames[first:count]
    empty = _nothing.__code__
    return empty.replace(
        co_argcount=code.co_argcount - first,
        co_posonlyargcount=max(0, code.co_posonlyargcount - first),
        co_kwonlyargcount=code.co_kwonlyargcount,
        co_nlocals=len(names),
        co_varnames=names,
        co_flags=empty.co_flags & ~_FLAGS | code.co_flags & _FLAGS,
        co_name=code.co_name,
        co_qualname=code.co_qualname,
        co_filename=code.co_filename,
    )


def _kept_defaults(fun: FunctionType, first: int) -> tuple[Any, ...] | None:
    defaults = fun.__defaults__
    if defaults and len(defaults) > fun.__code__.co_argcount - first:
        return defaults[1:]
    return defaults


def _from_signature(fun: Callable[..., Any]) -> Callable[..., object] | None:
    """For callables without a code object: slower, and rare."""
    from inspect import signature

    try:
        return signature(fun).bind
    except (TypeError, ValueError):
        return None


def positional_count(fun: Callable[..., Any], named: Iterable[str] = ()) -> float:
    """How many positional arguments a function takes; infinite with `*args`.

    Args:
        named: parameters that are given by name: neither they nor those after them have a place left.
    """
    if isinstance(fun, MethodType):
        return positional_count(fun.__func__, named) - 1
    code = getattr(fun, "__code__", None)
    if code is None:
        return float("inf")
    names = code.co_varnames[: code.co_argcount]
    if taken := [names.index(name) for name in named if name in names]:
        return int(min(taken))
    return float("inf") if code.co_flags & 0x04 else int(code.co_argcount)
