"""Everything about results, under the module name that Celery gives it."""

from __future__ import annotations

from taskcore import unsupported
from taskcore.exceptions import TimeoutError
from taskcore.results import ResultBase
from taskcore.results.async_result import (
    AsyncResult,
    IgnoredResult,
    result_from_tuple,
)
from taskcore.results.eager_result import EagerResult
from taskcore.results.group_result import GroupResult
from taskcore.results.joining import (
    allow_join_result,
    assert_will_not_block,
    denied_join_result,
)
from taskcore.results.result_set import ResultSet
from taskcore.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import NoReturn

__all__ = [
    "AsyncResult",
    "EagerResult",
    "GroupResult",
    "IgnoredResult",
    "ResultBase",
    "ResultSet",
    "TimeoutError",
    "allow_join_result",
    "assert_will_not_block",
    "denied_join_result",
    "result_from_tuple",
]


def __getattr__(name: str) -> NoReturn:
    raise unsupported.import_error(__name__, name)
