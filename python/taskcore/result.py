"""Everything about results, under the module name that Celery gives it."""

from typing import NoReturn

from taskcore import absent
from taskcore.asyncresult import (
    AsyncResult,
    IgnoredResult,
    allow_join_result,
    assert_will_not_block,
    result_from_tuple,
)
from taskcore.eagerresult import EagerResult
from taskcore.exceptions import TimeoutError
from taskcore.resultset import ResultSet

__all__ = [
    "AsyncResult",
    "EagerResult",
    "IgnoredResult",
    "ResultSet",
    "TimeoutError",
    "allow_join_result",
    "assert_will_not_block",
    "result_from_tuple",
]


def __getattr__(name: str) -> NoReturn:
    raise absent.export(__name__, name)
