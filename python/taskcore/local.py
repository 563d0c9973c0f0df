"""Proxy: an object that stands in for another one that is looked up at each use.

Tests replace attributes of shared tasks and ask what they are, so the stand-in answers for the
other object also where Python asks the class: `isinstance`, `dir`, `vars`, documentation.
"""

from __future__ import annotations

from taskcore.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class _OfBoth:
    """An attribute that the class has as well, so that `Proxy.__getattr__` is not asked for it."""

    def __init__(self, name: str, of_class: Any) -> None:
        self.name = name
        self.of_class = of_class

    def __get__(self, proxy: Any, owner: type) -> Any:
        return self.of_class if proxy is None else getattr(proxy._resolve(), self.name)


class Proxy:
    __slots__ = ("_resolve",)
    __doc__ = _OfBoth("__doc__", "Stands in for what `resolve` returns.")
    __module__ = _OfBoth("__module__", __name__)

    def __init__(self, resolve: Callable[[], Any]) -> None:
        object.__setattr__(self, "_resolve", resolve)

    def _get_current_object(self) -> Any:
        """What it stands in for."""
        return self._resolve()

    @property  # type: ignore[misc] # it is only read
    def __class__(self) -> Any:
        return self._resolve().__class__

    @property
    def __dict__(self) -> Any:  # type: ignore[override] # it is only read
        # `mock.patch` looks here for what it has to put back.
        return self._resolve().__dict__

    def __dir__(self) -> list[str]:
        return dir(self._resolve())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._resolve(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._resolve(), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._resolve(), name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._resolve()(*args, **kwargs)

    def __bool__(self) -> bool:
        return bool(self._resolve())

    def __eq__(self, other: object) -> bool:
        return bool(self._resolve() == other)

    def __hash__(self) -> int:
        return hash(self._resolve())

    def __repr__(self) -> str:
        return repr(self._resolve())

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self._resolve().__reduce_ex__(protocol)
