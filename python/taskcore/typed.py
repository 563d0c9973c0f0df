"""What the package needs of `typing` when its own classes are made, without importing it.

`typing` and what it imports are a third of what starting a producer costs, and a short program
starts more often than it publishes. Annotations are text, evaluated by nobody but who asks
`typing.get_type_hints`. The names in those of public functions therefore stand here as text too,
which says where the real ones are: `get_type_hints` evaluates text until none is left. Type
checkers see the real names. Other modules name types below `if TYPE_CHECKING:`.

Users subclass the public classes and ask `typing.get_type_hints` of theirs, which evaluates the
annotations of every base; so those of public classes stand below `if TYPE_CHECKING:` as well.
"""

from __future__ import annotations

from types import GenericAlias

TYPE_CHECKING = False
"""True to type checkers, as `typing.TYPE_CHECKING` is."""


class Later(str):
    """A name of an annotation, as text that evaluates to what has it."""

    __slots__ = ()

    def __or__(self, other: object) -> object:
        return eval(self) | other  # noqa: S307 - made by `later`

    def __ror__(self, other: object) -> object:
        return other | eval(self)  # noqa: S307

    def __getitem__(self, key: object) -> object:  # type: ignore[override]
        if isinstance(key, (int, slice)):
            return str.__getitem__(self, key)
        return eval(self)[key]  # noqa: S307

    def __getattr__(self, name: str) -> object:
        return getattr(eval(self), name)  # noqa: S307


def later(module: str, name: str) -> Later:
    """A name of an annotation that is imported when somebody asks what it means."""
    return Later(f"__import__({module!r}, fromlist=['*']).{name}")


_variables: dict[str, Any] = {}


def variable(name: str) -> object:
    """The type variable of that name, the same each time; `P` is one of parameters."""
    from typing import ParamSpec, TypeVar

    if name not in _variables:
        _variables[name] = ParamSpec(name) if name == "P" else TypeVar(name)
    return _variables[name]


if TYPE_CHECKING:
    from collections.abc import AsyncIterator as AsyncIterator
    from collections.abc import Callable as Callable
    from collections.abc import Coroutine as Coroutine
    from collections.abc import Generator as Generator
    from collections.abc import Iterable as Iterable
    from collections.abc import Iterator as Iterator
    from collections.abc import Mapping as Mapping
    from collections.abc import Sequence as Sequence
    from datetime import datetime as datetime
    from datetime import timedelta as timedelta
    from datetime import tzinfo as tzinfo
    from typing import Any as Any
    from typing import ClassVar as ClassVar
    from typing import Generic as Generic
    from typing import Literal as Literal
    from typing import NoReturn as NoReturn
    from typing import TypedDict as TypedDict
    from typing import Unpack as Unpack

    # Type checkers know this module without its being installed; `typing` has defaults from 3.13 on.
    from typing_extensions import ParamSpec, TypeVar

    P = ParamSpec("P", default=...)
    R = TypeVar("R", default=Any)
else:
    AsyncIterator = later("collections.abc", "AsyncIterator")
    Callable = later("collections.abc", "Callable")
    Coroutine = later("collections.abc", "Coroutine")
    Generator = later("collections.abc", "Generator")
    Iterable = later("collections.abc", "Iterable")
    Iterator = later("collections.abc", "Iterator")
    Mapping = later("collections.abc", "Mapping")
    Sequence = later("collections.abc", "Sequence")
    datetime = later("datetime", "datetime")
    timedelta = later("datetime", "timedelta")
    tzinfo = later("datetime", "tzinfo")
    Any = later("typing", "Any")
    ClassVar = later("typing", "ClassVar")
    Literal = later("typing", "Literal")
    NoReturn = later("typing", "NoReturn")
    Unpack = later("typing", "Unpack")
    P = later(__name__, "variable('P')")
    R = later(__name__, "variable('R')")

    class Generic:
        """Base of classes that may be written with parameters, as in `Task[..., int]`."""

        __slots__ = ()
        __class_getitem__ = classmethod(GenericAlias)

    class TypedDict:
        """Base of a class that is looked at for its names."""

        def __init_subclass__(cls, total: bool = True) -> None:
            """Accepts what `typing.TypedDict` does."""
