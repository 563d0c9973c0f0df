"""Everything about results, under the module name that Celery gives it."""

from taskcore.asyncresult import (
    AsyncResult,
    EagerResult,
    allow_join_result,
    assert_will_not_block,
    result_from_tuple,
)
from taskcore.exceptions import TimeoutError
from taskcore.resultset import ResultSet

__all__ = [
    "AsyncResult",
    "EagerResult",
    "ResultSet",
    "TimeoutError",
    "allow_join_result",
    "assert_will_not_block",
    "result_from_tuple",
]
