"""The check of arguments agrees with what a call would do."""

import functools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskcore.publishing.argument_check import checker, positional_count


def plain(a: Any, b: Any = 1) -> None: ...
def only(a: Any, /, b: Any, *, c: Any, d: Any = 2) -> None: ...
def many(*args: Any, **kwargs: Any) -> None: ...
def mixed(a: Any, *args: Any, b: Any = 1, **kwargs: Any) -> None: ...
def none() -> None: ...


class Thing:
    def method(self, x: Any, y: Any = 1) -> None: ...
    def __call__(self, x: Any) -> None: ...


def closure() -> Callable[..., Any]:
    def inner(a: Any, b: Any = 2) -> Callable[[], Any]:
        return lambda: (a, b)

    return inner


FUNCTIONS = [
    plain,
    only,
    many,
    mixed,
    none,
    Thing().method,
    Thing(),
    closure(),
    functools.partial(plain, 1),
    lambda x=3, *, y: None,
]


@given(
    st.sampled_from(FUNCTIONS),
    st.lists(st.none(), max_size=4),
    st.dictionaries(st.sampled_from(["a", "b", "c", "d", "x", "y", "z"]), st.none(), max_size=3),
)
def test_it_raises_exactly_when_the_call_would(
    fun: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]
) -> None:
    check = checker(fun)
    assert check is not None

    def fits(called: Callable[..., Any]) -> bool:
        try:
            called(*args, **kwargs)
        except TypeError:
            return False
        return True

    assert fits(check) == fits(fun)


def test_the_error_names_the_function_of_the_task() -> None:
    check = checker(plain)
    assert check is not None
    with pytest.raises(TypeError, match=r"plain\(\) missing 1 required positional argument: 'a'"):
        check()


def test_the_first_parameter_of_a_bound_task_is_the_task() -> None:
    check = checker(plain, bound=True)
    assert check is not None
    check()
    check(1)
    with pytest.raises(TypeError):
        check(1, 2)
    with pytest.raises(TypeError, match="takes no argument for `self`"):
        checker(none, bound=True)
    every = checker(many, bound=True)
    assert every is not None
    every(1, 2, x=3)


def test_user_code_does_not_run() -> None:
    def dangerous(x: Any) -> None:
        raise AssertionError

    check = checker(dangerous)
    assert check is not None
    assert check(1) is None


def test_positional_counts() -> None:
    assert positional_count(plain) == 2
    assert positional_count(Thing().method) == 2
    assert positional_count(many) == float("inf")
    assert positional_count(plain, ["b"]) == 1 and positional_count(plain, ["b", "a"]) == 0
    assert positional_count(plain, ["none of its own"]) == 2
