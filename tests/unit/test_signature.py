"""Signatures are Celery's dicts."""

import copy
import json
import pickle
from typing import Any

import pytest

from taskcore import Signature, maybe_signature, signature


@pytest.fixture
def add(app: Any) -> Any:
    return app.task(lambda x, y=0: x + y, name="add")


def test_six_keys(add: Any) -> None:
    assert add.s(1, y=2) == {
        "task": "add",
        "args": (1,),
        "kwargs": {"y": 2},
        "options": {},
        "subtask_type": None,
        "immutable": False,
    }
    assert add.si(1)["immutable"] and add.s().task == "add"
    assert signature(json.loads(json.dumps(add.s(1)))) == add.s(1)
    assert add.signature((1,), {"y": 2}, queue="q").options == {"queue": "q"}


def test_arguments_at_the_call_come_first(app: Any, add: Any) -> None:
    add.s(2).delay(1)
    assert app.publisher.sent[-1][1] == [1, 2]
    add.si(2).delay(1)
    assert app.publisher.sent[-1][1] == [2]
    add.s(y=3).clone((1,), {"y": 4}, queue="q").apply_async()
    _, args, kwargs, fields = app.publisher.sent[-1]
    assert (args, kwargs, fields["queue"]) == ([1], {"y": 4}, "q")


def test_options_at_the_call_win_but_for_some(add: Any) -> None:
    sig = add.s(1).set(queue="q", group_id="g", stamped_headers=["s"], s="v")
    _, _, options = sig.merged((), {}, {"queue": "p", "group_id": "h", "s": "w", "priority": None})
    assert options == {"queue": "p", "group_id": "g", "stamped_headers": ["s"], "s": "v"}


def test_links(app: Any, add: Any) -> None:
    sig = add.s(1)
    assert sig.link(add.s(2)) == add.s(2)
    sig.link(add.s(2))
    sig.on_error(add.s(3))
    sig.delay()
    fields = app.publisher.sent[-1][3]
    assert fields["callbacks"] == [add.s(2)] and fields["errbacks"] == [add.s(3)]


def test_copies_do_not_share(add: Any) -> None:
    sig = add.s([1]).set(queue="q")
    for other in (copy.deepcopy(sig), pickle.loads(pickle.dumps(sig))):
        assert other == sig and isinstance(other, Signature)
        other["args"][0].append(2)
        assert sig.args == ([1],)
    other = sig.clone()
    other.set(queue="p")
    assert sig.options == {"queue": "q"}


def test_from_what_is_on_the_wire(app: Any) -> None:
    found = signature({"task": "x"}, app=app)
    assert (found.args, found.kwargs, found.options, found.immutable) == ((), {}, {}, False)
    assert maybe_signature(None) is None and maybe_signature(found) is found
    found.delay(1)
    assert app.publisher.sent[-1][0].task == "x"
    with pytest.raises(TypeError, match="expected a task"):
        Signature(3)
    # As in Celery, what is none is given back where no app is to be put into it.
    assert maybe_signature(5) == 5
    with pytest.raises(TypeError, match="got `5`: expected a signature"):
        maybe_signature(5, app)


def test_it_can_be_called(add: Any) -> None:
    assert add.s(1)(2) == 3 and add.s(1, y=2).apply().get() == 3
    assert repr(add.s(1, y=2)) == "add(1, y=2)"


def test_an_unknown_kind_from_the_wire_is_refused() -> None:
    with pytest.raises(ValueError, match="subtask_type is `'sheaf'`: expected chain, "):
        signature({"task": "celery.sheaf", "subtask_type": "sheaf"})


def test_a_clone_shares_no_links(add: Any) -> None:
    sig = add.s(1)
    sig.link(add.s(2))
    clone = sig.clone()
    clone.options["link"][0]["kwargs"]["y"] = 3
    clone.options["link"].append(add.s(4))
    assert [(link.args, link.kwargs) for link in sig.options["link"]] == [((2,), {})]


def test_arguments_are_a_tuple_wherever_they_come_from(add: Any) -> None:
    wire = {"task": "add", "args": [1], "kwargs": {}, "options": {}}
    for sig in (add.s(1), signature(wire), add.s(1).clone(), add.s(2).replace(args=[1])):
        assert sig.args == sig["args"] == (1,)
