"""Every form of a workflow, made by stock Celery and by taskcore from the same words: the dicts and
the messages are the same but for ids."""

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import celery
import celery.canvas
import pytest
from celery.backends.base import KeyValueStoreBackend
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import taskcore
import taskcore.canvas
from support import fake_core

NAMES = ("add", "mul", "total", "errback")


class Counting(KeyValueStoreBackend):
    """Counts no chords, as a store with counters of its own does not by itself."""

    supports_native_join = True
    implements_incr = True

    def apply_chord(self, *args: Any, **kwargs: Any) -> None:
        pass

    def set_chord_size(self, group_id: str, chord_size: int) -> None:
        self.sizes.append(chord_size)

    def set(self, key: str, value: Any) -> None:
        pass

    def on_task_call(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return {}

    def ensure_chords_allowed(self) -> None:
        pass


class Results(fake_core.Results):
    """Remembers the sizes of joins."""

    def __init__(self) -> None:
        super().__init__("memory://")
        self.sizes: list[int] = []

    def declare_join(self, group_id: str, size: int) -> None:
        self.sizes.append(size)


def define(app: Any) -> dict[str, Any]:
    def anything(*args: Any, **kwargs: Any) -> None:
        """Never called."""

    return {name: app.task(name=name)(anything) for name in NAMES}


class Stock:
    """Stock Celery."""

    def __init__(self) -> None:
        self.app = celery.Celery("stock", broker="memory://", set_as_current=False)
        self.app.conf.task_ignore_result = False
        self.backend = Counting(self.app)
        self.backend.sizes = []
        self.app._backend = self.backend
        self.sent: list[dict[str, Any]] = []
        self.app.amqp.__dict__["send_task_message"] = self.send
        module = celery.canvas
        self.words = SimpleNamespace(
            **define(self.app), **words(module), signature=module.signature
        )

    def send(self, producer: Any, name: str, message: Any, **options: Any) -> None:
        args, kwargs, embed = message.body
        headers = message.headers
        self.sent.append(
            {
                "task": name,
                "args": args,
                "kwargs": kwargs,
                **embed,
                **{k: headers[k] for k in ("id", "group", "group_index", "root_id", "parent_id")},
                **{k: headers[k] for k in ("stamped_headers", "stamps")},
                "queue": getattr(options.get("queue"), "name", options.get("queue")),
            }
        )

    @property
    def sizes(self) -> list[int]:
        return self.backend.sizes  # type: ignore[no-any-return]


class Own:
    """taskcore."""

    def __init__(self) -> None:
        self.app = taskcore.Taskcore(
            "own", broker="memory://", backend="memory://", set_as_current=False
        )
        self.publisher = fake_core.Publisher("memory://")
        self.results = Results()
        self.app.conf.keys()
        self.app.producer._publisher = self.publisher
        self.app._connections._results = self.results
        module = taskcore.canvas
        self.words = SimpleNamespace(
            **define(self.app), **words(module), signature=module.signature
        )
        self.app.producer._publisher = self.publisher
        self.app.producer._make_template = fake_core.Template

    @property
    def sent(self) -> list[dict[str, Any]]:
        found = []
        for template, args, kwargs, fields in self.publisher.sent:
            found.append(
                {
                    "task": template.task,
                    "args": args,
                    "kwargs": kwargs,
                    **{k: fields.get(k) for k in ("callbacks", "errbacks", "chain", "chord")},
                    "id": fields["task_id"],
                    **{k: fields.get(k) for k in ("group", "group_index", "parent_id")},
                    "root_id": fields.get("root_id", fields["task_id"]),
                    **{k: fields.get(k) for k in ("stamped_headers", "stamps")},
                    "queue": fields.get("queue"),
                }
            )
        return found

    @property
    def sizes(self) -> list[int]:
        return self.results.sizes


def words(module: Any) -> dict[str, Any]:
    return {
        k: getattr(module, k) for k in ("chain", "group", "chord", "chunks", "xmap", "xstarmap")
    }


IGNORED_OPTIONS = {"reply_to", "add_to_parent"}


def plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=lambda one: one.__json__()))


class Canonical:
    """Renames ids by the order in which they come; leaves out what says nothing."""

    def __init__(self) -> None:
        self.ids: dict[str, str] = {}

    def id(self, value: Any) -> Any:
        return None if value is None else self.ids.setdefault(value, f"id{len(self.ids)}")

    def signature(self, sig: Any) -> Any:
        if isinstance(sig, list):
            return [self.signature(one) for one in sig]
        if not isinstance(sig, dict) or "task" not in sig:
            return sig
        options = self.options(sig)
        kwargs = {k: self.signature(v) for k, v in sig["kwargs"].items()}
        if sig["subtask_type"] == "chord" and isinstance(kwargs.get("header"), dict):
            options["header"] = kwargs["header"]["options"]
            kwargs["header"] = kwargs["header"]["kwargs"]["tasks"]
        return {**sig, "options": options, "kwargs": kwargs, "args": self.signature(sig["args"])}

    def options(self, sig: Any) -> dict[str, Any]:
        options: dict[str, Any] = {}
        for key, value in sorted(sig["options"].items()):
            if value in (None, [], {}, False) or key in IGNORED_OPTIONS:
                continue
            if key == "task_id" and sig["subtask_type"] in ("chord", "chain"):
                # A chord's own id is that of its header, or of its body: it is not sent.
                continue
            member = key in ("chord", "group_id", "group_index")
            if member and sig["subtask_type"] in ("chain", "chord"):
                # DIFFERENCE: what Celery says of a chain or chord and of its last task, the last
                # task says.
                continue
            if key == "group_id" and sig["options"].get("chord") is None:
                # DIFFERENCE: Celery's bodies carry the group of their header although they are no
                # members of it, and so do all parts of them; here only single tasks do.
                continue
            if key in ("task_id", "group_id", "root_id", "parent_id"):
                value = self.id(value)
            elif key in ("link", "link_error", "chain", "chord"):
                value = self.signature(value)
            options[key] = sorted(value) if key == "stamped_headers" else value
        return options

    def message(self, sent: dict[str, Any]) -> dict[str, Any]:
        found = dict(plain(sent))
        for key in ("id", "group", "root_id", "parent_id"):
            found[key] = self.id(found[key])
        for key in ("callbacks", "errbacks", "chain", "chord"):
            found[key] = self.signature(found[key]) or None
        found["queue"] = None if found["queue"] == "celery" else found["queue"]
        found["kwargs"] = {k: self.signature(v) for k, v in found["kwargs"].items()}
        found["stamped_headers"] = sorted(found["stamped_headers"] or ())
        found["stamps"] = found["stamps"] or {}
        return found


def dict_form(sig: Any) -> Any:
    return Canonical().signature(plain(sig))


def messages(side: Any) -> Any:
    canonical = Canonical()
    return [canonical.message(one) for one in side.sent]


FORMS: dict[str, Callable[[Any], Any]] = {
    "task": lambda w: w.add.s(1, y=2),
    "immutable": lambda w: w.add.si(1).set(queue="q"),
    "chain": lambda w: w.chain(w.add.s(1, 2), w.mul.s(3), w.mul.s(4)),
    "chain by |": lambda w: w.add.s(1, 2) | w.mul.s(3) | w.mul.s(4),
    "chain of chains": lambda w: w.chain(w.add.s(1) | w.add.s(2), w.add.s(3) | w.add.s(4)),
    "chain of one": lambda w: w.chain(w.add.s(1)),
    "chain of a generator": lambda w: w.chain(w.add.s(i) for i in range(3)),
    "chain with links": lambda w: linked(w.add.s(1, 2) | w.mul.s(3), w),
    "linked chain in a chain": lambda w: w.mul.s(1) | linked(w.add.s(2) | w.mul.s(3), w),
    "group": lambda w: w.group(w.add.s(1, 2), w.add.s(3, 4)),
    "group of a list": lambda w: w.group([w.add.s(1, 2), w.add.s(3, 4)]),
    "group of a generator": lambda w: w.group(w.add.s(i, i) for i in range(3)),
    "group of one": lambda w: w.group(w.add.s(1)),
    "group of chains": lambda w: w.group(w.add.s(1) | w.add.s(2), w.add.s(3)),
    "group with options": lambda w: w.group(w.add.s(1), w.add.s(2)).set(queue="q", priority=3),
    "chord": lambda w: w.chord([w.add.s(1, 2), w.add.s(3, 4)], w.total.s()),
    "chord by |": lambda w: w.group(w.add.s(1), w.add.s(2)) | w.total.s(),
    "chord of one": lambda w: w.chord([w.add.s(1)], w.total.s()),
    "chord with a chain as body": lambda w: (
        w.group(w.add.s(1), w.add.s(2)) | w.total.s() | w.mul.s(2)
    ),
    "chord with errback": lambda w: on_error(
        w.chord([w.add.s(1), w.add.s(2)], w.total.s()), w.errback.s()
    ),
    "chord with chains": lambda w: w.chord(
        [w.add.s(1, 2) | w.mul.s(2), w.add.s(2, 2)], w.total.s() | w.mul.s(3)
    ),
    "chord of chords": lambda w: w.chord(
        [w.chord([w.add.s(1), w.add.s(2)], w.total.s()), w.add.s(3)], w.total.s()
    ),
    "chord with a chord as body": lambda w: w.chord(
        [w.add.s(1)], w.chord([w.mul.s(1), w.mul.s(2)], w.total.s())
    ),
    "task, group": lambda w: w.add.s(1) | w.group(w.add.s(2), w.add.s(3)),
    "task, group, task": lambda w: w.add.s(1) | w.group(w.add.s(2), w.add.s(3)) | w.total.s(),
    "task, group of one, task": lambda w: w.add.s(1) | w.group(w.add.s(2)) | w.total.s(),
    "task, empty group, task": lambda w: w.chain(w.add.s(1), w.group(), w.add.s(2)),
    "task, task, group, task, task": lambda w: (
        w.add.s(1, 1) | w.mul.s(2) | w.group(w.add.s(1), w.add.s(2)) | w.total.s() | w.mul.s(9)
    ),
    "group, group": lambda w: w.group(w.add.s(1), w.add.s(2)) | w.group(w.mul.s(3), w.mul.s(4)),
    "group, task, group, task": lambda w: (
        w.group(w.add.s(1), w.add.s(2))
        | w.total.s()
        | w.group(w.mul.s(3), w.mul.s(4))
        | w.total.s()
    ),
    "chain of groups": lambda w: w.chain(
        w.group(w.add.s(1), w.add.s(2)), w.group(w.mul.s(3), w.mul.s(4)), w.total.s()
    ),
    "task, chord": lambda w: w.add.s(1) | w.chord([w.add.s(1), w.add.s(2)], w.total.s()),
    "chord, chord": lambda w: (
        w.chord([w.add.s(1)], w.total.s()) | w.chord([w.add.s(1), w.add.s(2)], w.total.s())
    ),
    "group of chains of chords": lambda w: w.group(
        w.add.s(1) | w.chord([w.add.s(2), w.add.s(3)], w.total.s()),
        w.chord([w.add.s(4)], w.total.s()) | w.mul.s(2),
    ),
    "map": lambda w: w.add.map([[1, 2], [3, 4]]),
    "starmap": lambda w: w.add.starmap([(1, 2), (3, 4)]),
    "chunks": lambda w: w.add.chunks([(0, 0), (1, 1), (2, 2)], 2),
    "skewed group": lambda w: w.group(w.add.s(i) for i in range(3)).skew(1, 2.5),
    "linked group": lambda w: linked(w.group(w.add.s(1), w.add.s(2)), w),
    "group | linked task": lambda w: w.group(w.add.s(1), w.add.s(2)) | linked(w.total.s(), w),
    "immutable group": lambda w: immutable(w.group(w.add.s(1), w.add.s(2))),
    "stamped chain": lambda w: stamped(w.add.s(1) | w.mul.s(2)),
    "stamped group": lambda w: stamped(w.group(w.add.s(1), w.mul.s(2))),
    "stamped chord": lambda w: stamped(w.chord([w.add.s(1), w.mul.s(2)], w.total.s())),
    "stamped links": lambda w: stamped(linked(w.add.s(1), w)),
}


def linked(sig: Any, w: Any) -> Any:
    sig.link(w.total.s())
    sig.link_error(w.errback.s())
    return sig


def on_error(sig: Any, errback: Any) -> Any:
    sig.on_error(errback)
    return sig


def immutable(sig: Any) -> Any:
    sig.set_immutable(True)
    return sig


def stamped(sig: Any) -> Any:
    sig.stamp(color="red", size=3)
    return sig


DELAYED = {"skewed group"}
"""Forms whose messages say a time."""


@pytest.mark.parametrize("form", FORMS)
def test_the_dict_form(form: str) -> None:
    stock, own = Stock(), Own()
    mine, theirs = dict_form(FORMS[form](own.words)), dict_form(FORMS[form](stock.words))
    assert mine == theirs
    # The bytes of protocol 2 follow the order of the keys.
    assert json.dumps(mine) == json.dumps(theirs)


@pytest.mark.parametrize("form", [form for form in FORMS if form not in DELAYED])
def test_the_messages(form: str) -> None:
    stock, own = Stock(), Own()
    FORMS[form](stock.words).apply_async()
    FORMS[form](own.words).apply_async()
    assert messages(own) == messages(stock)
    assert sorted(own.sizes) == sorted(stock.sizes)


@pytest.mark.parametrize("form", FORMS)
def test_celery_reads_what_taskcore_writes_and_back(form: str) -> None:
    stock, own = Stock(), Own()
    mine, theirs = FORMS[form](own.words), FORMS[form](stock.words)
    read = stock.words.signature(plain(mine), app=stock.app)
    assert dict_form(read) == dict_form(mine)
    back = own.words.signature(plain(theirs), app=own.app)
    assert dict_form(back) == dict_form(theirs)


# Random forms

TASKS = st.builds(
    lambda name, args, immutable: ("task", name, args, immutable),
    st.sampled_from(["add", "mul"]),
    st.lists(st.integers(0, 9), max_size=2),
    st.booleans(),
)


def composed(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    some = st.lists(parts, min_size=1, max_size=3)
    return (
        st.builds(lambda tasks: ("chain", tasks), some)
        | st.builds(lambda tasks: ("group", tasks), some)
        | st.builds(lambda header, body: ("chord", header, body), some, parts)
        | st.builds(lambda tasks: ("|", tasks), st.lists(parts, min_size=2, max_size=3))
    )


GRAPHS = st.recursive(TASKS, composed, max_leaves=10)


def build(w: Any, spec: Any) -> Any:
    if spec[0] == "task":
        _, name, args, immutable = spec
        task = getattr(w, name)
        return task.si(*args) if immutable else task.s(*args)
    parts = [build(w, one) for one in spec[1]]
    if spec[0] == "|":
        made = parts[0]
        for part in parts[1:]:
            made = made | part
        return made
    if spec[0] == "chord":
        return w.chord(parts, build(w, spec[2]))
    return getattr(w, spec[0])(parts)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(GRAPHS)
def test_random_dict_forms(spec: Any) -> None:
    stock, own = _sides()
    assert dict_form(build(own.words, spec)) == dict_form(build(stock.words, spec))


def _sides(made: list[Any] = []) -> tuple[Stock, Own]:  # noqa: B006 - made once, as apps are
    if not made:
        made += [Stock(), Own()]
    stock, own = made
    stock.sent.clear()
    stock.sizes.clear()
    own.publisher.sent.clear()
    own.sizes.clear()
    return stock, own


def differs(sig: Any) -> bool:
    """Whether the messages are other ones on purpose.

    DIFFERENCE: Celery turns the order of a group inside of a group around, and counts each member
    of a group in which the member of a chord ends; here such a member has one value, a list. What
    follows a chord that ends in a group runs there once for each member of it or once for all,
    depending on how the chain was written; here it runs once, with the list.
    """
    kind, inside = sig["subtask_type"], sig["kwargs"]
    tasks = list(inside.get("tasks") or inside.get("header") or ()) if kind else []
    if isinstance(inside.get("header"), dict):
        tasks = list(inside["header"]["kwargs"]["tasks"])
    if kind in ("group", "chord") and any(ends_in_group(task) for task in tasks):
        return True
    body = [inside["body"]] if kind == "chord" else []
    if any(task["subtask_type"] == "chord" and ends_in_group(task) for task in tasks):
        return True
    return any(differs(task) for task in [*tasks, *body])


def ends_in_group(sig: Any) -> bool:
    kind, inside = sig["subtask_type"], sig["kwargs"]
    if kind == "chain":
        return ends_in_group(inside["tasks"][-1])
    return kind == "group" or (kind == "chord" and ends_in_group(inside["body"]))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(GRAPHS)
def test_random_messages(spec: Any) -> None:
    stock, own = _sides()
    assume(not differs(plain(build(own.words, spec))))
    build(stock.words, spec).apply_async()
    build(own.words, spec).apply_async()
    assert messages(own) == messages(stock)
    assert sorted(own.sizes) == sorted(stock.sizes)
