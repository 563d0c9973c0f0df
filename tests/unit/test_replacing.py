"""What a task is replaced by: which of it takes the place of the task."""

from typing import Any

import pytest

from taskcore import chain, chord, group


def published(app: Any, core: Any, sig: Any, **fields: Any) -> Any:
    """The messages that a task publishes which is replaced by a signature."""

    @app.task(name="t", bind=True)
    def replaced(self: Any) -> Any:
        return self.replace(sig)

    request = core.Request(id="i", task="t", args=[], reply_to="the client", **fields)
    app.executor.run(app.executor.plan("t"), request, (), {})
    return request.following


def first_link(follow: Any) -> Any:
    """The last step that a message carries, or its chord's body."""
    fields = follow[3]
    return fields["chain"][0] if fields.get("chain") else fields["chord"]


def options_of(sig: Any) -> Any:
    while sig["subtask_type"] == "chord":
        sig = sig["kwargs"]["body"]
    return sig["options"]


@pytest.fixture
def add(app: Any) -> Any:
    return app.task(name="add")(lambda *args: sum(args))


@pytest.mark.parametrize("kind", ["chain", "chain and group", "chain and chord", "group", "chord"])
def test_the_last_task_answers_who_waits_for_the_replaced_one(
    app: Any, core: Any, add: Any, kind: str
) -> None:
    pair = group(add.s(1), add.s(2))
    sig = {
        "chain": chain(add.s(1), add.s(2), add.s(3)),
        "chain and group": add.s(1) | pair,
        "chain and chord": add.s(1) | chord([add.s(1), add.s(2)], add.s()),
        "group": pair,
        "chord": chord([add.s(1), add.s(2)], add.s()),
    }[kind]
    sent = published(app, core, sig)
    last = options_of(first_link(sent[0]))
    assert (last["task_id"], last["reply_to"]) == ("i", "the client")
    assert all(one[3].get("reply_to") != "the client" for one in sent)


def test_a_task_that_keeps_no_result_keeps_that_of_the_task_it_replaces(
    app: Any, core: Any
) -> None:
    quiet = app.task(name="quiet", ignore_result=True)(lambda: None)
    ((_, _, _, fields),) = published(app, core, quiet.s())
    assert fields["task_id"] == "i" and fields["ignore_result"] is False


def test_what_is_not_waited_for_stays_so(app: Any, core: Any, add: Any) -> None:
    sent = published(app, core, chord([add.s(1), add.s(2)], add.s()), ignore_result=True)
    assert options_of(sent[0][3]["chord"])["ignore_result"] is True
    assert not any(one[3].get("ignore_result") for one in sent)
