"""Results by every serializer, compressed or not: values, failures, states, chords, and what a client
refuses to open."""

import base64
import datetime as dt
import json
import os
from typing import Any

import pytest

from support.site import Site
from support.wait import until
from taskcore import AsyncResult, chord, group, serialize
from taskcore.exceptions import (
    ChordError,
    ContentDisallowed,
    DecodeError,
    ImproperlyConfigured,
    SerializerNotInstalled,
)

WAIT = 30
ACCEPT = ["json", "msgpack", "pickle", "yaml"]
FORMS: list[dict[str, Any]] = [
    *({"result_serializer": name} for name in ("pickle", "yaml", "msgpack")),
    {"result_compression": "gzip"},
    {"result_serializer": "pickle", "result_compression": "zstd"},
    {"result_serializer": "application/x-python-serialize", "result_compression": "bzip2"},
]


def start(site: Site, *options: str, **conf: Any) -> Any:
    """A worker and a client of one configuration."""
    (site.folder / "encoded.py").write_text(f"import sample\napp = sample.make(**{conf!r})")
    site.worker(*options, app="encoded")
    return site.client(**conf)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: "-".join(form.values()).replace("/", "."))
def test_what_tasks_return_and_raise_arrives(site: Site, form: dict[str, Any]) -> None:
    app = start(site, **form, result_accept_content=ACCEPT)
    call = {name: app.tasks[f"sample.{name}"] for name in ("echo", "add", "refuse")}
    value = {"a": [1, None, "☃"], "b": {"c": 1.5}}
    assert call["echo"].delay(value).get(timeout=WAIT) == value
    refused = call["refuse"].delay(7, "no")
    with pytest.raises(Exception, match="no") as raised:
        refused.get(timeout=WAIT)
    assert type(raised.value).__name__ == "Refused" and raised.value.args == (7, "no")
    assert "Traceback" in refused.traceback
    several = group(call["add"].s(n, n) for n in range(20)).apply_async()
    assert several.get(timeout=WAIT) == [2 * n for n in range(20)]
    body = chord([call["add"].s(n, n) for n in range(12)], call["echo"].s())()
    assert body.get(timeout=WAIT) == [2 * n for n in range(12)]
    lost = chord([call["add"].s(1, 1), call["refuse"].s(7, "no")], call["echo"].s())()
    with pytest.raises(ChordError, match=r"Refused\(7, 'no'\)"):
        lost.get(timeout=WAIT)


def test_what_json_cannot_write_is_pickled(site: Site) -> None:
    conf = {"result_serializer": "pickle", "accept_content": ACCEPT, "task_serializer": "pickle"}
    app = start(site, **conf)
    value = {(1, 2): {3, 4}, "at": dt.datetime(2026, 1, 2, tzinfo=dt.UTC), "c": 1j}
    echo = app.tasks["sample.echo"]
    assert echo.delay(value).get(timeout=WAIT) == value
    assert chord([echo.s(value), echo.s((1,))], echo.s())().get(timeout=WAIT) == [value, (1,)]


def test_a_result_that_the_task_serializer_cannot_write_fails_the_body(site: Site) -> None:
    app = start(site, result_serializer="pickle", accept_content=ACCEPT, task_serializer="json")
    unencodable = app.tasks["sample.unencodable"]
    assert type(unencodable.delay().get(timeout=WAIT)) is object
    made = chord([unencodable.s()], app.tasks["sample.echo"].s())()
    with pytest.raises(ChordError, match="cannot encode `object`"):
        made.get(timeout=WAIT)


def test_states_of_a_task_s_own_and_what_a_client_stores(site: Site) -> None:
    conf = {"result_serializer": "pickle", "result_accept_content": ACCEPT}
    app = start(site, **conf)
    echo = app.tasks["sample.echo"]
    echo.update_state(task_id="mine", state="PROGRESS", meta={(1, 2): 3})
    found = AsyncResult("mine", app=app)
    assert (found.state, found.info, found.ready()) == ("PROGRESS", {(1, 2): 3}, False)
    made = group(echo.s(n) for n in range(3)).apply_async()
    made.save()
    assert made.restore(made.id, app=app).get(timeout=WAIT) == [0, 1, 2]


def test_a_final_state_stays(site: Site) -> None:
    for name in ("pickle", "msgpack", "yaml"):
        app = site.client(result_serializer=name, result_accept_content=ACCEPT)
        for state in ("PROGRESS", "FAILURE", "STARTED", "SUCCESS", "FAILURE"):
            app.backend.put(name, state, {"exc_type": "X", "exc_message": "status: STARTED"})
        assert AsyncResult(name, app=app).state == "SUCCESS"


def test_a_client_opens_what_it_accepts(site: Site) -> None:
    app = start(site, result_serializer="pickle", result_accept_content=ACCEPT)
    stored = app.tasks["sample.echo"].delay(5)
    assert stored.get(timeout=WAIT) == 5
    for conf, error, words in (
        ({"result_serializer": "pickle"}, ContentDisallowed, "add it to `result_accept_content`"),
        (
            {"result_serializer": "yaml", "result_accept_content": ["yaml"]},
            ContentDisallowed,
            "code",
        ),
        ({}, DecodeError, "set `result_serializer`"),
    ):
        with pytest.raises(error, match=words):
            AsyncResult(stored.id, app=site.client(**conf)).get(timeout=WAIT)
    accepts = site.client(result_accept_content=["json", "pickle"])
    assert AsyncResult(stored.id, app=accepts).get(timeout=WAIT) == 5


def test_a_serializer_of_the_user_s_own(site: Site) -> None:
    lines = [
        "import json, sample",
        "from taskcore import serialize",
        "serialize.register('mine', lambda v: 'mine' + json.dumps(v), lambda t: json.loads(t[4:]), 'application/x-mine')",
        "app = sample.make(result_serializer='mine', result_accept_content=['mine'])",
    ]
    (site.folder / "own.py").write_text("\n".join(lines))
    serialize.register(
        "mine", lambda v: "mine" + json.dumps(v), lambda t: json.loads(t[4:]), "application/x-mine"
    )
    try:
        site.worker(app="own")
        app = site.client(result_serializer="mine", result_accept_content=["mine"])
        echo = app.tasks["sample.echo"]
        assert echo.delay([1]).get(timeout=WAIT) == [1]
        assert chord([echo.s(1), echo.s(2)], echo.s())().get(timeout=WAIT) == [1, 2]
    finally:
        serialize.unregister("mine")


def test_a_serializer_that_hides_the_state_is_refused(site: Site) -> None:
    serialize.register(
        "hidden",
        lambda value: base64.b64encode(json.dumps(value).encode()),
        lambda data: json.loads(base64.b64decode(data)),
        "application/x-hidden",
    )
    try:
        with pytest.raises(
            (ValueError, ImproperlyConfigured), match="the state of a task is not seen"
        ):
            _ = site.client(result_serializer="hidden").backend
    finally:
        serialize.unregister("hidden")
    with pytest.raises(SerializerNotInstalled, match="pickel"):
        _ = site.client(result_serializer="pickel").backend
    with pytest.raises((ValueError, ImproperlyConfigured), match="compression `rar`"):
        _ = site.client(result_compression="rar").backend


def test_json_of_the_user_s_own(site: Site) -> None:
    """What looks like JSON and is more: a set is a map that only this serializer reads."""
    lines = [
        "import json",
        "from taskcore import serialize",
        "def more(v): return {'a set': sorted(v)}",
        "def less(d): return set(d['a set']) if 'a set' in d else d",
        "serialize.register('sets', lambda v: json.dumps(v, default=more), lambda t: json.loads(t, object_hook=less), 'application/x-sets')",
    ]
    conf = {
        "result_serializer": "sets",
        "task_serializer": "sets",
        "accept_content": ["json", "sets"],
    }
    app_lines = [*lines, "import sample", f"app = sample.make(**{conf!r})"]
    (site.folder / "sets.py").write_text("\n".join(app_lines))
    exec("\n".join(lines), {})
    try:
        site.worker(app="sets")
        app = site.client(**conf)
        echo = app.tasks["sample.echo"]
        assert echo.delay({1, 2}).get(timeout=WAIT) == {1, 2}
        assert chord([echo.s({1}), echo.s([2])], echo.s())().get(timeout=WAIT) == [{1}, [2]]
        lost = chord([app.tasks["sample.fail"].s("no")], echo.s())()
        with pytest.raises(ChordError, match="no"):
            lost.get(timeout=WAIT)
    finally:
        serialize.unregister("sets")


GREEDY = """
import ctypes, os, sample

app = sample.make(result_serializer="pickle", result_accept_content=["json", "pickle"])
open_file = ctypes.PyDLL(None).open  # a call that does not let go of the interpreter


@app.task(name="keep_interpreter")
def keep_interpreter(path):
    sample.write("begun")
    os.close(open_file(path.encode(), os.O_RDONLY))
    return "done"
"""


def test_whoever_keeps_the_interpreter_does_not_stop_the_worker(sqlite_site: Site) -> None:
    site = sqlite_site
    (site.folder / "greedy.py").write_text(GREEDY)
    pipe = site.folder / "pipe"
    os.mkfifo(pipe)
    site.worker("-P", "threads", "-c", "2", app="greedy")
    app = site.client(result_serializer="pickle", result_accept_content=["json", "pickle"])
    kept = app.send_task("keep_interpreter", (str(pipe),), queue="taskcore")
    until(lambda: site.written() == ["begun"], "the task to begin")
    # Its result is the worker's own, and needs Python to be pickled.
    past = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1)
    expired = app.tasks["sample.add"].apply_async((1, 2), expires=past)
    site.wait_queue(depth=0)
    try:
        assert app.control.broadcast("active", reply=True, limit=1, timeout=WAIT) != []
    finally:
        with pipe.open("w"):
            pass
    assert kept.get(timeout=WAIT) == "done"
    with pytest.raises(Exception, match="expired"):
        expired.get(timeout=WAIT)
