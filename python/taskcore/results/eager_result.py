"""The result of a task that ran here: everything is known from the start, and there is no store to
ask."""

from __future__ import annotations

from typing import Any, TypeVar

from taskcore import states
from taskcore.exceptions import TaskRevokedError
from taskcore.results import exception_codec
from taskcore.results.async_result import AsyncResult, check_options

R = TypeVar("R")
_WITHOUT_VALUE = frozenset({states.IGNORED, states.REJECTED})


class EagerResult(AsyncResult[R]):
    """The result of a task that ran here and now."""

    supports_native_join = False
    """There is no store that could be waited for."""
    __slots__ = ()

    def __init__(
        self,
        id: str,
        ret_value: Any,
        state: str,
        traceback: str | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(id)
        self._document = {
            "task_id": id,
            "status": state,
            "result": ret_value,
            "traceback": traceback,
            "name": name,
            "children": [],
        }

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        **options: Any,
    ) -> R:
        """The value, or what the task raised; also inside a task, because nothing is waited for."""
        check_options(options)
        return self._value(self._read(), propagate)  # type: ignore[no-any-return]

    wait = get

    def ready(self) -> bool:
        """Always: it has run."""
        return True

    def _value(self, document: dict[str, Any], propagate: bool) -> Any:
        if document["status"] in _WITHOUT_VALUE:
            return None
        return super()._value(document, propagate)

    def _exception(self, document: dict[str, Any]) -> BaseException:
        result = document["result"]
        if isinstance(result, BaseException):
            return exception_codec.ordinary(result)
        return super()._exception(document)

    def __repr__(self) -> str:
        return f"<EagerResult: {self.id}>"

    def forget(self) -> None:
        """There is nothing to delete."""

    def revoke(self, *args: Any, **options: Any) -> None:
        """Says from now on that it was revoked, as Celery's does; it has run all the same."""
        self._document = {
            **self._read(),
            "status": states.REVOKED,
            "result": TaskRevokedError("revoked"),
        }

    def __reduce__(self) -> Any:
        known = self._read()
        return EagerResult, (
            self.id,
            known["result"],
            known["status"],
            known["traceback"],
            known["name"],
        )

    def __copy__(self) -> EagerResult[R]:
        make, args = self.__reduce__()
        copied: EagerResult[R] = make(*args)
        return copied
