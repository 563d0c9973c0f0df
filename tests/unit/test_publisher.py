"""What `_core` promises about publishing and waiting, against the broker and the store of one process."""

import os
import signal
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from taskcore import _core
from taskcore.exceptions import (
    DecodeError,
    EncodeError,
    NotSupportedError,
    OperationalError,
    TimeoutError,
    UnroutableError,
)

FIELDS: dict[str, tuple[Any, Any]] = {
    # name: (a value that fits, one that does not)
    "task_id": ("an-id", 5),
    "queue": ("other", ""),
    "exchange": ("", 1),
    "priority": (9, 10),
    "serializer": ("json", "jsn"),
    "compression": ("zstd", "rar"),
    "eta": (1.9e9, "soon"),
    "expires": (2_000_000_000, float("nan")),
    "retries": (3, -1),
    "time_limit": (2.5, 0),
    "soft_time_limit": (2, -1),
    "ignore_result": (True, 1),
    "root_id": ("r", ""),
    "parent_id": ("p", 1),
    "group": ("g", b"g"),
    "group_index": (0, "0"),
    "shadow": ("s", 1),
    "origin": ("o", 1),
    "argsrepr": ("(1,)", 1),
    "kwargsrepr": ("{}", 1),
    "reply_to": ("", 1),
    "headers": ({"x": [1, None]}, {"id": "mine"}),
    "stamps": ({"s": 1}, [1]),
    "stamped_headers": (["s"], "s"),
    "replaced_task_nesting": (1, True),
    "callbacks": ([{"task": "t"}], {"task": "t"}),
    "errbacks": ([], "t"),
    "chain": ([{"task": "t"}], 1),
    "chord": ({"task": "t"}, [1]),
    "delivery_mode": (1, 3),
    "timeout": (1.5, 0),
    "retry": (False, "no"),
    "retry_policy": ({"max_retries": None, "interval_start": 0.5}, {"nothing": 1}),
}


@pytest.fixture
def publisher() -> _core.Publisher:
    return _core.Publisher(f"memory://{uuid.uuid4()}")


@pytest.fixture(params=["compact", "celery"])
def template(request: pytest.FixtureRequest) -> _core.Template:
    return _core.Template("proj.add", queue="q", protocol=request.param)


def test_an_id_is_made_when_none_is_given(
    publisher: _core.Publisher, template: _core.Template
) -> None:
    made = publisher.publish(template, (1,), {})
    assert uuid.UUID(made).version == 4
    assert publisher.publish(template, [1], {"k": 2}, {"task_id": "mine"}) == "mine"
    assert publisher.stats("q") == {"depth": 2, "in_flight": 0, "scheduled": 0, "dead": 0}
    assert publisher.queues() == ["q"]
    assert publisher.purge("q") == 2


def test_a_compact_message_does_not_reach_celerys_workers(publisher: _core.Publisher) -> None:
    refused = pytest.raises(ValueError, match=r"`celery`.*set task_protocol=2.*another queue")
    with refused:
        _core.Template("proj.add", queue="celery")
    template = _core.Template("proj.add", queue="q")
    with refused:
        publisher.publish(template, (), {}, {"queue": "celery", "task_id": "i"})
    with refused:
        publisher.publish_many(template, [()], {"queue": "celery"})
    both = _core.Template("proj.add", queue="celery", protocol="celery")
    publisher.publish(both, (), {})
    assert publisher.stats("celery")["depth"] == 1 and publisher.stats("q")["depth"] == 0


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_is_taken_and_its_value_checked(
    publisher: _core.Publisher, template: _core.Template, name: str
) -> None:
    good, bad = FIELDS[name]
    publisher.publish(template, (), {}, {name: good})
    publisher.publish(template, (), {}, {name: None})
    with pytest.raises((TypeError, ValueError), match=rf"\b{name}\b.*expected"):
        publisher.publish(template, (), {}, {name: bad})
    assert publisher.publish_many(template, [()], {name: good} if name != "task_id" else None)


def test_an_unknown_field_names_the_nearest(
    publisher: _core.Publisher, template: _core.Template
) -> None:
    with pytest.raises(ValueError, match="unknown field `prority`: did you mean `priority`"):
        publisher.publish(template, (), {}, {"prority": 1})
    with pytest.raises(
        ValueError, match="unknown field `zzzzzzzz`: expected one of task_id, queue"
    ):
        publisher.publish(template, (), {}, {"zzzzzzzz": 1})


def test_compact_messages_wait_at_the_broker_and_can_be_cancelled(
    publisher: _core.Publisher,
) -> None:
    compact = _core.Template("proj.add", queue="q")
    celery = _core.Template("proj.add", queue="q", protocol="celery")
    for template in (compact, celery):
        publisher.publish(template, (), {}, {"eta": 4e9, "task_id": "later"})
    assert publisher.stats("q")["scheduled"] == 1
    assert publisher.stats("q")["depth"] == 1
    assert publisher.cancel("q", "later") is True
    assert publisher.cancel("q", "later") is False


@pytest.mark.parametrize(
    "change",
    [
        {"task": ""},
        {"queue": ""},
        {"serializer": "jsn"},
        {"protocol": "2"},
        {"priority": 10},
        {"priority": -1},
        {"compression": "rar"},
        {"time_limit": 0},
        {"soft_time_limit": float("inf")},
    ],
)
def test_a_template_is_checked_when_it_is_made(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        _core.Template(**{"task": "t", "queue": "q", **change})


@pytest.mark.parametrize("url", ["", "nothing", "memry://", "://x"])
def test_a_url_that_is_none(url: str) -> None:
    for make in (_core.Publisher, _core.Results):
        with pytest.raises(ValueError, match="expected"):
            make(url)


def test_what_this_version_does_not_do_is_said() -> None:
    with pytest.raises(NotSupportedError, match="no adapter for `sqs`"):
        _core.Publisher("sqs://guest@localhost")
    with pytest.raises(ValueError, match="unknown option `nothing`"):
        _core.Publisher("memory://", options={"nothing": 1})
    with pytest.raises(TypeError, match="option `x` is a `list`"):
        _core.Publisher("memory://", options={"x": []})


@pytest.mark.parametrize("args", ["ab", {"a": 1}, 5, None])
def test_args_that_are_none(
    publisher: _core.Publisher, template: _core.Template, args: Any
) -> None:
    with pytest.raises(TypeError, match="expected a list or tuple of arguments"):
        publisher.publish(template, args, {})


def test_a_body_over_the_limit_is_refused_with_the_limit_named(template: _core.Template) -> None:
    publisher = _core.Publisher("memory://limits", max_body=1000)
    for fields in (None, {"compression": "gzip"}, {"serializer": "pickle"}):
        with pytest.raises(ValueError, match=r"`proj\.add` take .* `task_max_body` of"):
            publisher.publish(template, ("x" * 1000,), {}, fields)


def test_an_argument_that_cannot_be_encoded_is_named(
    publisher: _core.Publisher, template: _core.Template
) -> None:
    with pytest.raises(EncodeError, match=r"cannot encode `set` at args\[1\]\.a with"):
        publisher.publish(template, (1, {"a": {1}}), {})
    with pytest.raises(EncodeError, match=r"cannot encode `object` at kwargs\.k\[0\] with"):
        publisher.publish(template, (), {"k": [object()]})
    with pytest.raises(EncodeError, match=r"at callbacks\[0\]\.args with"):
        publisher.publish(template, (), {}, {"callbacks": [{"args": {1}}]})
    with pytest.raises(EncodeError):
        publisher.publish(template, (lambda: None,), {}, {"serializer": "pickle"})
    assert publisher.queues() == []


def test_bulk_ids_are_in_order_and_all_different(
    publisher: _core.Publisher, template: _core.Template
) -> None:
    ids = publisher.publish_many(template, ((i,) for i in range(2500)))
    assert len(set(ids)) == 2500
    assert publisher.stats("q")["depth"] == 2500
    each = publisher.publish_each((template, (i,), {}, {"task_id": str(i)}) for i in range(1200))
    assert each == [str(i) for i in range(1200)]
    assert publisher.publish_many(template, []) == []
    with pytest.raises(ValueError, match="would name all messages alike"):
        publisher.publish_many(template, [()], {"task_id": "x"})
    with pytest.raises(TypeError, match=r"expected \(Template, args, kwargs dict"):
        publisher.publish_each([(template, ())])  # type: ignore[list-item]


def broken(at: int) -> Any:
    for i in range(5000):
        if i == at:
            raise RuntimeError("no more")
        yield (i,)


def refuse(i: int) -> None:
    if i == 2345:
        raise TypeError("does not fit")


@pytest.mark.parametrize(
    ("calls", "check", "error"),
    [
        (lambda: broken(2345), None, RuntimeError),
        (lambda: ((i,) for i in range(5000)), refuse, TypeError),
        (lambda: (({i},) if i == 2345 else (i,) for i in range(5000)), None, EncodeError),
    ],
)
def test_a_failed_bulk_publish_says_what_went_out(
    publisher: _core.Publisher,
    template: _core.Template,
    calls: Callable[[], Any],
    check: Any,
    error: type[Exception],
) -> None:
    with pytest.raises(error) as info:
        publisher.publish_many(template, calls(), check=check)
    published = info.value.published  # type: ignore[attr-defined]
    assert len(published) == len(set(published)) == publisher.stats("q")["depth"] == 2000


def test_a_message_that_no_queue_receives_is_an_error(
    publisher: _core.Publisher, template: _core.Template
) -> None:
    with pytest.raises(UnroutableError, match="exchange `logs` with routing key `q`") as info:
        publisher.publish(template, (), {}, {"exchange": "logs", "task_id": "an-id"})
    assert "`an-id` of task `proj.add`" in str(info.value)
    assert isinstance(info.value, OperationalError)
    assert publisher.queues() == []


def test_a_bulk_publish_says_which_messages_no_queue_receives(
    publisher: _core.Publisher, template: _core.Template
) -> None:
    def messages() -> Any:
        for n in range(2_500):
            fields: dict[str, Any] = {"task_id": str(n)}
            if n in (1_200, 1_300):
                fields["exchange"] = "logs"
            if n % 3 == 0 and n < 100:
                fields["timeout"] = 1.5  # a chunk of its own
            yield template, (n,), {}, fields

    with pytest.raises(UnroutableError, match="the first is message `1200`") as info:
        publisher.publish_each(messages())
    lost, published = info.value.unroutable, info.value.published  # type: ignore[attr-defined]
    assert lost == ["1200", "1300"]
    assert [n for n in map(str, range(len(published) + 2)) if n not in lost] == published
    assert publisher.stats("q")["depth"] == len(published) < 2_500


def test_a_fork_repeats_no_ids(template: _core.Template) -> None:
    publisher = _core.Publisher("memory://fork")
    before = publisher.publish(template, (), {})
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        try:
            ids = [publisher.publish(template, (), {}) for _ in range(20)]
            os.write(write, "\n".join(ids).encode())
        finally:
            os._exit(0)
    os.close(write)
    with open(read) as pipe:
        theirs = pipe.read().split()
    os.waitpid(child, 0)
    ours = [before] + [publisher.publish(template, (), {}) for _ in range(20)]
    assert len(theirs) == 20
    assert len(set(ours + theirs)) == 41


# results


def test_a_document_is_written_and_read() -> None:
    results = _core.Results(f"memory://{uuid.uuid4()}")
    results.put("a", "PROGRESS", {"pct": 50}, traceback="tb", fields={"name": "proj.add"})
    stored, nothing = results.get(["a", "b"])
    assert nothing is None
    assert stored == {
        "status": "PROGRESS",
        "result": {"pct": 50},
        "traceback": "tb",
        "children": None,
        "date_done": None,
        "name": "proj.add",
        "task_id": "a",
    }
    results.put("a", "SUCCESS", b"\xff")
    done = results.wait("a", timeout=60)
    assert done is not None
    assert (done["status"], done["result"]) == ("SUCCESS", b"\xff")
    results.forget("a")
    assert results.get(["a"]) == [None]
    assert results.reply_to.startswith("tc-")
    with pytest.raises(EncodeError, match=r"`object` at result\[0\]"):
        results.put("a", "SUCCESS", [object()])


def test_the_members_of_a_chord_are_declared() -> None:
    results = _core.Results(f"memory://{uuid.uuid4()}")
    results.declare_join("g", 2)
    results.extend_join("g", 1)
    with pytest.raises(ValueError, match=r"the join `g` has no members, expected at least `1`"):
        results.declare_join("g", 0)
    for wrong in (results.declare_join, results.extend_join):
        with pytest.raises(OverflowError):
            wrong("g", -1)


def test_a_wait_ends_at_its_timeout() -> None:
    results = _core.Results(f"memory://{uuid.uuid4()}")
    with pytest.raises(TimeoutError):
        results.wait("a", timeout=0.01)
    with pytest.raises(ValueError, match="`timeout` is `-1`"):
        results.wait("a", timeout=-1)


def test_a_signal_handler_that_raises_ends_a_wait() -> None:
    class Stop(Exception):
        pass

    def stop(*_: object) -> None:
        raise Stop

    results = _core.Results(f"memory://{uuid.uuid4()}")
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    try:
        with pytest.raises(Stop):
            results.wait("a", timeout=60)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("raw", [b"", b"{", b"{}", b"\x80", b"nothing", b"\xff" * 10])
def test_what_is_no_message_is_an_error(raw: bytes) -> None:
    with pytest.raises(DecodeError):
        _core.read_message(raw)
