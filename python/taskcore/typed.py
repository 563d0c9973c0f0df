"""What the package needs of `typing` when its own classes are made, without importing it.

`typing` and what it imports are a third of what starting a producer costs, and a short program
starts more often than it publishes. Modules that a producer imports therefore name types below
`if TYPE_CHECKING:`; annotations are text and never evaluated. Type checkers see the real names.

Users subclass the public classes and ask `typing.get_type_hints` of theirs, which evaluates the
annotations of every base; so those of public classes stand below `if TYPE_CHECKING:` as well. What
it answers for a method of taskcore's is a NameError: there only a type checker knows the names.
"""

from __future__ import annotations

from types import GenericAlias

TYPE_CHECKING = False
"""True to type checkers, as `typing.TYPE_CHECKING` is."""

if TYPE_CHECKING:
    from typing import Generic as Generic
    from typing import ParamSpec, TypeVar
    from typing import TypedDict as TypedDict

    P = ParamSpec("P")
    R = TypeVar("R")
else:
    P, R = "P", "R"

    class Generic:
        """Base of classes that may be written with parameters, as in `Task[..., int]`."""

        __slots__ = ()
        __class_getitem__ = classmethod(GenericAlias)

    class TypedDict:
        """Base of a class that is looked at for its names."""

        def __init_subclass__(cls, total: bool = True) -> None:
            """Accepts what `typing.TypedDict` does."""
