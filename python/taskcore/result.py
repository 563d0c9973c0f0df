"""Everything about results, under the module name that Celery gives it."""

from typing import NoReturn

from taskcore import unsupported
from taskcore.exceptions import TimeoutError
from taskcore.results.async_result import (
    AsyncResult,
    IgnoredResult,
    result_from_tuple,
)
from taskcore.results.eager_result import EagerResult
from taskcore.results.joining import allow_join_result, assert_will_not_block
from taskcore.results.result_set import ResultSet

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
    raise unsupported.import_error(__name__, name)
