"""Compositions without a worker: what is refused, what runs here and now, what is sent."""

import json
import pickle
from typing import Any
from weakref import ref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskcore import (
    Signature,
    StampingVisitor,
    Task,
    Taskcore,
    chain,
    chord,
    chunks,
    group,
    maybe_signature,
    signature,
)
from taskcore.canvas.check import MAX_DEPTH
from taskcore.exceptions import EncodeError, ImproperlyConfigured, NotRegistered


@pytest.fixture
def tasks(app: Any) -> Any:
    class Tasks:
        add = app.task(lambda x, y=0: x + y, name="add")
        total = app.task(lambda values: sum(values), name="total")
        fail = app.task(lambda *args: 1 // 0, name="fail")
        quiet = app.task(lambda *args: None, name="quiet", ignore_result=True)

    return Tasks


def sent(app: Any) -> list[Any]:
    found: list[Any] = app.publisher.sent
    return found


# What is refused, before anything is sent


def test_a_task_that_is_not_registered(app: Any, tasks: Any) -> None:
    for made in (
        group(tasks.add.s(1), signature("ad")),
        tasks.add.s(1) | group(tasks.add.s(1), signature("ad") | tasks.add.s(2)),
        chord([tasks.add.s(1)], signature("ad")),
        group(tasks.add.s(1).set(link=[signature("ad")])),
    ):
        with pytest.raises(NotRegistered, match="no task named `ad`, did you mean `add`"):
            made.apply_async()
    assert sent(app) == []
    group(tasks.add.s(1), signature("other", queue="theirs")).apply_async()
    assert [template.task for template, *_ in sent(app)] == ["add", "other"]


def test_without_tasks_of_its_own_an_app_calls_those_of_others(app: Any) -> None:
    chain(signature("a"), signature("b"), app=app).apply_async()
    assert sent(app)[0][3]["chain"][0]["task"] == "b"


def test_a_chord_needs_a_store_and_results(core: Any, app: Any, tasks: Any) -> None:
    with pytest.raises(ValueError, match="member `quiet` of a chord has `ignore_result`"):
        chord([tasks.add.s(1), tasks.add.s(1) | tasks.quiet.s()], tasks.total.s()).delay()
    with pytest.raises(ValueError, match="member `add`"):
        chord([tasks.add.s(1).set(ignore_result=True)], tasks.total.s()).delay()
    chord([tasks.quiet.s() | tasks.add.s(1)], tasks.quiet.s()).delay()
    with pytest.raises(TypeError, match="a chord without a body"):
        chord([tasks.add.s(1)]).delay()
    without = Taskcore("p", broker="memory://", set_as_current=False)
    add = without.task(lambda x: x, name="add")
    with pytest.raises(ImproperlyConfigured, match="needs a result store"):
        (group(add.s(1), add.s(2)) | add.s()).delay()


@pytest.mark.parametrize("make", [chain, group, lambda *parts: chord(list(parts), parts[0])])
def test_a_part_that_is_no_signature(make: Any, tasks: Any) -> None:
    with pytest.raises(TypeError, match="got `3`: expected a signature"):
        make(tasks.add.s(1), 3)
    with pytest.raises(TypeError, match="got `3`: expected a signature"):
        chord([tasks.add.s(1)], 3)


def test_a_graph_that_is_too_deep(app: Any, tasks: Any) -> None:
    deep = tasks.add.s(1)
    for _ in range(MAX_DEPTH):
        deep = chord([deep], tasks.total.s())
    deep.apply_async()
    with pytest.raises(ValueError, match=f"more than `{MAX_DEPTH}` levels deep"):
        chord([deep], tasks.total.s()).apply_async()
    assert len(sent(app)) == 1


def test_groups_that_follow_each_other_are_one_level(app: Any, tasks: Any) -> None:
    app.results_or_none.declare_join = lambda gid, size: None
    steps = [group(tasks.add.s(1), tasks.add.s(2)), tasks.add.s(3)] * 100
    chain(steps).apply_async()
    tasks.add.s(1) | chain(steps)
    (tasks.add.s(1) | chain(steps)).apply_async()
    assert len(sent(app)) == 3 and len(sent(app)[2][3]["chain"]) == 100
    with pytest.raises(ValueError, match="`150` groups that follow each other"):
        chain(steps * 2).apply_async()


@pytest.mark.parametrize("count", [MAX_DEPTH + 1, 2000])
def test_groups_right_after_each_other_are_a_level_each(app: Any, tasks: Any, count: int) -> None:
    app.results_or_none.declare_join = lambda gid, size: None
    pair = group(tasks.total.s(), tasks.total.s())
    chain(tasks.add.s(1), *[pair] * 60).apply_async()
    with pytest.raises(ValueError, match=f"more than `{MAX_DEPTH}` levels deep"):
        chain(tasks.add.s(1), *[pair] * count).apply_async()
    assert len(sent(app)) == 1


def test_a_chain_that_is_far_too_long_to_be_composed(tasks: Any) -> None:
    steps = [group(tasks.add.s(1), tasks.add.s(2)), tasks.total.s()]
    with pytest.raises(ValueError, match="`150` groups that follow each other"):
        chain(steps * 2000)


def test_a_composition_shows_what_it_is(tasks: Any) -> None:
    one, two, total = tasks.add.s(1, 2), tasks.add.s(3), tasks.total.s()
    name, last = one.task, total.task
    assert repr(one | two) == f"{name}(1, 2) | {name}(3)"
    assert repr(group(one, two)) == f"group([{name}(1, 2), {name}(3)])"
    assert repr(chord([one, one], total)) == f"%{last}([{name}(1, 2), {name}(1, 2)])"
    assert repr(chord([one], total | two)) == f"%({last}([{name}(1, 2)]) | {name}(3))"
    assert repr(chord([one], group(two, two))) == (
        f"%group([{name}(3), {name}(3)])([{name}(1, 2)])"
    )
    assert repr(chord([one], total) | two) == repr(chord([one], total | two))


def test_what_sending_costs_grows_with_the_groups_and_not_with_their_square(
    app: Any, tasks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = 0
    merged = Signature.merged

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal copies
        copies += 1
        return merged(self, *args, **kwargs)

    monkeypatch.setattr(Signature, "merged", counted)

    def cost(turns: int) -> int:
        nonlocal copies
        pair = tasks.total.s(), group(tasks.add.s(1), tasks.add.s(2))
        sig = chain(*(pair * turns))
        copies = 0
        sig.apply_async(([],))
        return copies

    assert cost(80) < 5 * cost(20)


def test_a_signature_inside_of_itself(app: Any, tasks: Any) -> None:
    inside = group([tasks.add.s(1)])
    inside.tasks.append(inside)
    with pytest.raises(ValueError, match="a group is inside of itself"):
        inside.apply_async()
    linked = tasks.add.s(1)
    linked.options["link"] = [linked]
    with pytest.raises(ValueError, match="inside of itself: `add`"):
        group(linked, tasks.add.s(2)).apply_async()
    assert sent(app) == []


def test_arguments_that_do_not_fit_a_member(app: Any, tasks: Any) -> None:
    with pytest.raises(TypeError):
        group(tasks.add.s(1), tasks.add.s(1, 2, 3)).apply_async()
    assert len(sent(app)) <= 1  # the core sends by the thousand, the fake one by one


def test_an_argument_far_behind_in_a_long_list_that_cannot_be_encoded(app: Any, tasks: Any) -> None:
    members = [tasks.add.s(i, "text") for i in range(1500)]
    for wrong in (tasks.add.s(object()), tasks.add.s(1) | tasks.add.s(object())):
        with pytest.raises(EncodeError):
            group([*members, group(wrong, tasks.add.s(1))]).apply_async()
        with pytest.raises(EncodeError):
            chord([*members, wrong], tasks.total.s()).apply_async()
    assert sent(app) == []


def test_what_follows_a_group_is_no_link(tasks: Any) -> None:
    with pytest.raises(TypeError, match="option `link` of a group"):
        group(tasks.add.s(1), tasks.add.s(2)).apply_async(link=tasks.add.s())


# What is sent


def test_members_that_are_compositions_have_results_too(app: Any, tasks: Any) -> None:
    app.results_or_none.declare_join = lambda gid, size: None
    inner = chord([tasks.add.s(1), tasks.add.s(2)], tasks.total.s())
    result = group(inner, tasks.add.s(3), tasks.add.s(4) | tasks.add.s(5)).apply_async()
    assert [type(one).__name__ for one in result] == ["AsyncResult"] * 3
    assert len(result[0].parent) == 2
    assert result[2].parent.id in [fields["task_id"] for *_, fields in sent(app)]


def test_a_group_of_a_generator_is_not_in_memory(app: Any, tasks: Any) -> None:
    made_before: list[Any] = []
    alive: list[int] = []

    def members() -> Any:
        for number in range(100):
            sig = tasks.add.s(number)
            made_before.append(ref(sig))
            yield sig
            del sig
            alive.append(sum(one() is not None for one in made_before))

    made = group(members())
    result = made.apply_async()
    assert len(result) == 100 and max(alive) < 5
    with pytest.raises(RuntimeError, match="came from a generator"):
        made.apply_async()
    looked = group(tasks.add.s(i) for i in range(3))
    assert len(looked) == 3 and looked.tasks[1] == tasks.add.s(1)
    assert json.loads(json.dumps(looked.tasks.__json__()))[2]["args"] == [2]
    looked.apply_async()
    looked.apply_async()
    assert pickle.loads(pickle.dumps(looked)) == looked


def test_a_chord_of_a_generator_says_its_size_before_the_last_member(app: Any, tasks: Any) -> None:
    seen: list[int] = []
    app.results_or_none.declare_join = lambda gid, size: seen.extend((size, len(sent(app))))
    result = chord((tasks.add.s(i) for i in range(10)), tasks.total.s()).apply_async()
    assert seen == [10, 9]
    assert len(result.parent) == 10 and {f["group"] for *_, f in sent(app)} == {result.parent.id}
    assert {f["chord"]["options"]["task_id"] for *_, f in sent(app)} == {result.id}


def test_an_empty_header_calls_the_body_at_once(app: Any, tasks: Any) -> None:
    result = chord([], tasks.total.s()).apply_async()
    ((template, args, _, fields),) = sent(app)
    assert (template.task, args, fields["task_id"]) == ("total", [[]], result.id)


def test_empty_forms(app: Any, tasks: Any) -> None:
    assert chain().apply_async() is None
    assert list(group().apply_async()) == []
    assert sent(app) == []


def test_a_member_that_ends_in_a_group_has_one_value(app: Any, tasks: Any) -> None:
    declared: list[int] = []
    app.results_or_none.declare_join = lambda gid, size: declared.append(size)
    inner = tasks.add.s(1) | group(tasks.add.s(2), tasks.add.s(3))
    chord([tasks.add.s(0), inner], tasks.total.s()).apply_async()
    assert declared == [2]
    (step,) = sent(app)[1][3]["chain"]
    assert step["subtask_type"] == "chord"
    assert step["kwargs"]["body"]["task"] == "celery.accumulate"


def test_maps_go_to_the_queue_of_their_task(app: Any, tasks: Any) -> None:
    app.conf.task_routes = {"add": "sums"}
    tasks.add.map([1]).delay()
    tasks.add.chunks([(1,), (2,)], 1).apply_async()
    assert [fields["queue"] for *_, fields in sent(app)] == ["sums"] * 3
    with pytest.raises(ValueError, match="n is `0`"):
        chunks(tasks.add.s(), [], 0)


def test_a_long_chain_is_frozen_once(app: Any, tasks: Any) -> None:
    result = chain(tasks.add.s(1) for _ in range(1000)).apply_async()
    assert len(sent(app)[0][3]["chain"]) == 999
    count = 0
    while result is not None:
        result, count = result.parent, count + 1
    assert count == 1000


def test_a_callback_of_the_program_sends_members_itself(app: Any, tasks: Any) -> None:
    called: list[Any] = []

    class Own(Signature):
        def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
            called.append((self.args, options["group_index"]))
            return app.AsyncResult("own")

    result = group(tasks.add.s(1), Own(tasks.add, (2,))).apply_async()
    assert called == [((2,), 1)] and [one.id for one in result][1] == "own"


def test_only_calls_of_a_task_s_own_leave_the_pipeline(app: Any, tasks: Any) -> None:
    batches: list[int] = []
    each = app.publisher.publish_each

    def publish_each(messages: Any) -> list[str]:
        ids: list[str] = each(messages)
        batches.append(len(ids))
        return ids

    app.publisher.publish_each = publish_each
    called: list[Any] = []

    class Own(Task[..., Any]):
        def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
            called.append((args, options["group_index"]))
            return super().apply_async(args, kwargs, **options)

    own = app.task(lambda x: x, name="own", base=Own)
    assert len(group(tasks.add.s(n) for n in range(20)).apply_async()) == 20
    assert (batches, called) == ([20], [])
    made = group([*(tasks.add.s(n) for n in range(5)), own.s(7), tasks.add.s(6)]).apply_async()
    assert (batches, called) == ([20, 5, 1], [((7,), 5)])
    assert [one.id for one in made] == [fields["task_id"] for *_, fields in sent(app)[20:]]
    assert [fields["group_index"] for *_, fields in sent(app)[20:]] == list(range(7))
    assert {fields["group"] for *_, fields in sent(app)[20:]} == {made.id}


def test_kinds_can_be_replaced(tasks: Any) -> None:
    before = Signature.TYPES["group"]

    class Mine(group):
        pass

    try:
        Signature.register_type("group")(Mine)
        assert type(maybe_signature(dict(group(tasks.add.s(1), tasks.add.s(2))))) is Mine
    finally:
        Signature.TYPES["group"] = before


# Stamps


def test_a_visitor_says_part_by_part(tasks: Any) -> None:
    seen: list[str] = []

    class Visitor(StampingVisitor):
        def on_group_start(self, group: Any, **headers: Any) -> dict[str, Any]:
            seen.append("group")
            return {"in_group": True}

        def on_chord_body(self, sig: Any, **headers: Any) -> dict[str, Any]:
            return {"body": 1}

        def on_callback(self, callback: Any, **headers: Any) -> dict[str, Any]:
            return {"linked": 2}

        def on_signature(self, sig: Any, **headers: Any) -> dict[str, Any]:
            seen.append(sig.task)
            return {"mark": sig.task}

    linked = tasks.add.s(1)
    linked.link(tasks.quiet.s())
    made = chord([linked, tasks.add.s(2)], tasks.total.s())
    made.stamp(Visitor())
    assert seen == ["group", "quiet", "add", "add", "total"]
    first = made.tasks.tasks[0]
    assert first.options["stamped_headers"] == ["in_group", "mark"]
    assert first.options["link"][0].options["linked"] == 2
    assert (made.body.options["body"], made.body.options["mark"]) == (1, "total")
    with pytest.raises(NotImplementedError, match="stamps no tasks"):
        tasks.add.s(1).stamp(StampingVisitor())


def test_what_a_visitor_does_not_name_as_a_stamp_is_none(app: Any, tasks: Any) -> None:
    class Visitor(StampingVisitor):
        def on_signature(self, sig: Any, **headers: Any) -> dict[str, Any]:
            return {"mark": 1, "more": 2, "stamped_headers": ["mark"]}

    sig = tasks.add.s(1)
    sig.stamp(Visitor())
    sig.delay()
    assert sent(app)[0][3]["stamps"] == {"mark": 1}


def test_stamps_that_are_there_stay_or_are_collected(app: Any, tasks: Any) -> None:
    sig = tasks.add.s(1)
    sig.stamp(color="red")
    sig.stamp(append_stamps=True, color="blue")
    assert sig.options["color"] == ["blue", "red"]
    sig.delay()
    assert sent(app)[0][3]["stamps"] == {"color": ["blue", "red"]}


def test_an_error_callback_of_header_tasks_gets_their_ids(app: Any, tasks: Any) -> None:
    app.conf.task_allow_error_cb_on_chord_header = True
    sig = chord([tasks.add.s(1)], tasks.total.s()).on_error(tasks.quiet.s())
    for one in (sig.tasks[0], sig.body):
        (errback,) = one.options["link_error"]
        assert not errback.immutable


# Here and now


def test_all_forms_run_here(tasks: Any) -> None:
    add, total = tasks.add, tasks.total
    assert chain(add.s(1, 2), add.s(3), add.s(4)).apply().get() == 10
    assert group(add.s(i, i) for i in range(3)).apply().get() == [0, 2, 4]
    assert chord([add.s(1, 1), add.s(2, 2)], total.s()).apply().get() == 6
    assert (add.s(1) | group(add.s(1), add.s(2)) | total.s() | add.s(10)).apply().get() == 15
    nested = chord([add.s(1), add.s(1) | group(add.s(1), add.s(2))], add.si(7))
    assert nested.apply().get() == 7
    assert add.chunks([(1, 1), (2, 2)], 1).apply().get() == [[2], [4]]
    assert add.starmap([(1, 1)]).apply().get() == [2]
    with pytest.raises(ZeroDivisionError):
        chain(tasks.fail.s(), add.s(1)).apply()


def test_always_eager(app: Any, tasks: Any) -> None:
    app.conf.task_always_eager = True
    done: list[Any] = []
    keep = app.task(lambda value: done.append(value), name="keep")
    made = tasks.add.s(1) | group(tasks.add.s(1), tasks.add.s(2)) | tasks.total.s()
    made.link(keep.s())
    assert made.delay().get() == 5
    assert done == [5] and sent(app) == []
    linked = tasks.add.s(1)
    linked.link(group(keep.s(), tasks.add.s(1) | keep.s()))
    linked.delay()
    assert done == [5, 1, 2]


VALUES = st.recursive(
    st.integers(0, 9).map(lambda n: ("add", n)),
    lambda parts: (
        st.lists(parts, min_size=1, max_size=3).map(lambda tasks: ("chain", tasks))
        | st.lists(parts, min_size=1, max_size=3).map(lambda tasks: ("chord", tasks))
    ),
    max_leaves=8,
)


def build(tasks: Any, spec: Any) -> Any:
    """Adds numbers; a chord adds up what its header gives."""
    if spec[0] == "add":
        return tasks.add.s(spec[1])
    parts = [build(tasks, part) for part in spec[1]]
    return chain(parts) if spec[0] == "chain" else chord(parts, tasks.total.s())


def value(spec: Any, given: int) -> int:
    if spec[0] == "add":
        return given + int(spec[1])
    if spec[0] == "chain":
        for part in spec[1]:
            given = value(part, given)
        return given
    return sum(value(part, given) for part in spec[1])


@settings(deadline=None, max_examples=60)
@given(VALUES)
def test_random_graphs_mean_what_they_say(spec: Any) -> None:
    app = Taskcore("p", broker="memory://", backend="memory://", set_as_current=False)

    class Tasks:
        add = app.task(lambda x, y=0: x + y, name="add")
        total = app.task(lambda values: sum(values), name="total")

    assert build(Tasks, spec).apply((1,)).get() == value(spec, 1)


# The tasks that every app has


def test_the_built_in_tasks(app: Any, tasks: Any) -> None:
    app.finalize()
    built_in = app.tasks
    assert built_in["celery.accumulate"](1, 2) == (1, 2)
    assert built_in["celery.accumulate"]([1, 2], index=0) == [1, 2]
    wire = json.loads(json.dumps(tasks.add.s()))
    assert built_in["celery.map"](wire, [1, 2]) == [1, 2]
    assert built_in["celery.starmap"](wire, [[1, 1]]) == [2]
    _, members = built_in["celery.chunks"](wire, [[1, 1], [2, 2], [3, 3]], 2)
    assert [len(kwargs["it"]) for _, _, kwargs, _ in sent(app)] == [2, 1] and len(members) == 2
    with pytest.raises(NotImplementedError):
        built_in["celery.chain"]()
    assert built_in["celery.backend_cleanup"].ignore_result


def test_a_chord_that_its_client_has_looked_after(app: Any, tasks: Any) -> None:
    app.finalize()
    unlock, store = app.tasks["celery.chord_unlock"], app.results_or_none
    body = json.loads(json.dumps(tasks.total.s().set(task_id="b")))
    members = [[[name, None], None] for name in ("m1", "m2")]
    store.put("m1", "SUCCESS", 1)
    store.put("m2", "SUCCESS", 2)
    unlock.apply(("g", body), {"result": members})
    assert (sent(app)[-1][0].task, sent(app)[-1][1]) == ("total", [[1, 2]])
