"""Results that both sides read: members of Celery's classes, tuples, saved groups, graphs."""

import io
from types import ModuleType
from typing import Any

import pytest

from taskcore import result as own
from taskcore.utils import graph as own_graph

WAIT = 30


@pytest.mark.parametrize("name", ["AsyncResult", "EagerResult", "ResultSet", "GroupResult"])
def test_every_member_of_celerys_is_here(name: str) -> None:
    theirs = getattr(pytest.importorskip("celery.result"), name)
    members = {member for member in dir(theirs) if not member.startswith("_")}
    made = {
        "AsyncResult": lambda: own.AsyncResult("i"),
        "EagerResult": lambda: own.EagerResult("i", 1, "SUCCESS"),
        "ResultSet": lambda: own.ResultSet(["i"]),
        "GroupResult": lambda: own.GroupResult("g", ["i"]),
    }[name]()
    missing = members - set(dir(made))
    assert missing == set()


@pytest.mark.parametrize("edges", [[], [("r", ["a", "b"]), ("a", ["c"]), ("b", ["c"]), ("c", [])]])
def test_graphs_are_drawn_as_celery_draws_them(edges: Any) -> None:
    theirs = pytest.importorskip("celery.utils.graph")
    drawn = []
    for module in (theirs, own_graph):
        made = module.DependencyGraph(
            edges, formatter=module.GraphFormatter(root="r", shape="oval", indent=1)
        )
        written = io.StringIO()
        made.to_dot(written)
        valencies = [made.valency_of(node) for node in made]
        drawn.append((written.getvalue(), list(made.topsort()), valencies))
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize(
    "stored",
    [
        (("a", None), None),
        (("b", (("a", None), None)), None),
        (("g", (("p", None), None)), [(("a", None), None), (("b", None), None)]),
        (("g", None), [(("h", None), [(("a", None), None)]), (("b", None), None)]),
    ],
    ids=repr,
)
def test_tuples_mean_the_same(mixed: Any, stock: ModuleType, stored: Any) -> None:
    from celery.result import result_from_tuple

    theirs, ours = result_from_tuple(stored, stock.app), own.result_from_tuple(stored, mixed.app)
    assert theirs.as_tuple() == ours.as_tuple() == stored and str(theirs) == str(ours)
    assert type(theirs).__name__ == type(ours).__name__


def test_a_group_that_one_side_saves_the_other_restores(mixed: Any, stock: ModuleType) -> None:
    from celery.result import AsyncResult, GroupResult

    mixed.taskcore_worker()
    ids = [mixed.task("add").delay(n, n).id for n in range(3)]
    own.GroupResult("ours", ids, app=mixed.app).save()
    theirs = GroupResult.restore("ours", app=stock.app)
    assert theirs.get(timeout=WAIT) == [0, 2, 4] and theirs.completed_count() == 3
    GroupResult("theirs", [AsyncResult(one, app=stock.app) for one in ids], app=stock.app).save()
    ours = own.GroupResult.restore("theirs", app=mixed.app)
    assert ours.get(timeout=WAIT) == [0, 2, 4] and ours.ids == ids
    theirs.delete()
    assert own.GroupResult.restore("ours", app=mixed.app) is None
    ours.delete()
    assert GroupResult.restore("theirs", app=stock.app) is None


def test_many_results_of_a_stock_worker(mixed: Any, stock: ModuleType) -> None:
    mixed.celery_worker()
    results = mixed.task("add").apply_many((n, n) for n in range(50))
    assert results.get(timeout=WAIT) == [2 * n for n in range(50)]
    with pytest.raises(ValueError, match="on purpose"):
        own.ResultSet([mixed.task("fail").delay("on purpose"), "nobody"], mixed.app).get(WAIT)


PUBLISHING = """
import sample
from taskcore import group

app = sample.make(task_protocol=2)
add = app.tasks["sample.add"]


@app.task(name="publish")
def publish():
    add.delay(1, 1)
    group(add.s(2, 2), add.s(3, 3)).apply_async()


@app.task(name="publish_quietly", trail=False)
def publish_quietly():
    publish()
"""


def test_both_sides_read_what_a_task_has_published(mixed: Any, stock: ModuleType) -> None:
    (mixed.folder / "publishing.py").write_text(PUBLISHING)
    mixed.worker("-Q", "celery", app="publishing")
    theirs = stock.app.send_task("publish")
    assert theirs.get(timeout=WAIT) is None
    ours = mixed.app.AsyncResult(theirs.id)
    for result in (theirs, ours):
        one, several = result.children
        assert one.get(timeout=WAIT) == 2 and several.get(timeout=WAIT) == [4, 6]
        assert type(several).__name__ == "GroupResult"
        assert [value for _, value in result.collect()] == [None, 2, [4, 6], 4, 6]
    assert len(ours.graph) == len(theirs.graph) == 5
    quiet = mixed.app.send_task("publish_quietly")
    assert quiet.get(timeout=WAIT) is None and quiet.children == []


def shape(result: Any) -> Any:
    """What a result has inside, by kinds."""
    return type(result).__name__, [shape(child) for child in result.children or ()]


def test_what_follows_is_the_child_that_celery_tells_of(mixed: Any, stock: ModuleType) -> None:
    from celery import chain, chord, group

    def linked(*callbacks: Any) -> Any:
        sig = stock.add.si(1, 1)
        for callback in callbacks:
            sig.link(callback)
        return sig

    def forms() -> list[Any]:
        one, two = stock.add.si(1, 1), stock.add.si(2, 2)
        return [
            chain(one, group(one, two)),
            linked(group(one, two)),
            linked(one, two),
            linked(chain(one, two)),
            linked(chord([one, two], stock.echo.si(0))),
            chain(one, group(one, two), stock.echo.si(0)),
            chain(one, two, group(two, chain(one, two))),
            chain(one, chord([one, chain(one, two)], stock.echo.si(0)), two),
        ]

    shapes = []
    for start in (mixed.celery_worker, mixed.taskcore_worker):
        worker = start("-c", "1")
        found = []
        for sig in forms():
            first = result = sig.apply_async()
            result.get(timeout=WAIT)
            while first.parent is not None:
                first = first.parent
            first = stock.app.AsyncResult(first.id)
            mixed.wait_queue("celery", depth=0, in_flight=0)
            values = [(type(one).__name__, value) for one, value in first.collect()]
            ours = mixed.app.AsyncResult(first.id)
            assert shape(first) == shape(ours) and len(first.graph) == len(ours.graph)
            found.append((shape(first), values))
        shapes.append(found)
        worker.stop()
    assert shapes[0] == shapes[1]


def test_documents_that_a_peer_has_compressed(mixed: Any) -> None:
    """As workers of Celery 5.7 write them with `result_compression`."""
    import threading
    import zlib

    import redis

    document = b'{"status": "SUCCESS", "result": 5, "traceback": null, "children": []}'
    written = b"\0celery-compressed\0application/x-gzip\0" + zlib.compress(document)
    server = redis.Redis.from_url(mixed.results)
    server.set("celery-task-meta-there", written)
    assert mixed.app.AsyncResult("there").get(timeout=WAIT) == 5

    def announce() -> None:
        server.set("celery-task-meta-later", written)
        server.publish("celery-task-meta-later", written)

    threading.Timer(0.05, announce).start()
    assert mixed.app.AsyncResult("later").get(timeout=WAIT) == 5
    both = own.ResultSet(["there", "later"], mixed.app)
    assert both.get(timeout=WAIT) == [5, 5]
