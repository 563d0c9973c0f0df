"""Result documents by every serializer of Celery's: written and read by both sides."""

import importlib
import json
import sys
from typing import Any

import pytest
from celery import chord as their_chord

from support.wait import until
from taskcore import chord

WAIT = 30
ACCEPT = ["json", "msgpack", "pickle", "yaml"]
FORMS = [
    {"result_serializer": "pickle"},
    {"result_serializer": "yaml"},
    {"result_serializer": "msgpack"},
    {"result_serializer": "json", "result_compression": "gzip"},
]


@pytest.fixture(params=FORMS, ids=lambda form: "-".join(form.values()))
def form(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Settings of both sides."""
    return {**request.param, "result_accept_content": ACCEPT}


@pytest.fixture
def theirs(mixed: Any, form: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """A stock client of these settings; stock workers have them too."""
    for name, value in (mixed.env | {"STOCK_CONF": json.dumps(form)}).items():
        if name != "PYTHONPATH":
            monkeypatch.setenv(name, value)
    sys.modules.pop("stock", None)
    yield importlib.import_module("stock")
    sys.modules.pop("stock").app.close()


@pytest.fixture
def ours(mixed: Any, form: dict[str, Any]) -> Any:
    """Our client of these settings."""
    (mixed.folder / "encoded.py").write_text(f"import sample\napp = sample.make(**{form!r})")
    return mixed.client(**form)


def read(result: Any) -> Any:
    """The value, or the kind of the exception and what it says."""
    try:
        return result.get(timeout=WAIT)
    except Exception as exc:
        return type(exc).__name__, str(exc)


def test_both_sides_read_what_either_has_written(mixed: Any, theirs: Any, ours: Any) -> None:
    for start in (
        lambda: mixed.worker("-Q", "celery", app="encoded"),
        lambda: mixed.celery_worker(),
    ):
        worker = start()
        value = {"a": [1, None, "☃"], "b": {"c": 1.5}}
        for task_id, expected in (
            (theirs.echo.delay(value).id, value),
            (theirs.fail.delay("wrong").id, ("ValueError", "wrong")),
            (ours.tasks["sample.echo"].delay(value).id, value),
            (ours.send_task("sample.nowhere", queue="other").id, None),
        ):
            if expected is None:
                ours.backend.put(task_id, "REVOKED", None)
                expected = ("TaskRevokedError", "revoked")
                assert theirs.app.AsyncResult(task_id).state == "REVOKED"
                assert read(ours.AsyncResult(task_id)) == expected
                continue
            assert read(theirs.app.AsyncResult(task_id)) == expected
            assert read(ours.AsyncResult(task_id)) == expected
        worker.stop()


def test_a_chord_whose_members_run_on_both(mixed: Any, theirs: Any, ours: Any) -> None:
    mixed.worker("-Q", "celery", "-c", "1", app="encoded")
    mixed.celery_worker("-c", "1", "-Q", "stock")
    for rounds in range(3):
        header = [
            theirs.echo.s(n).set(queue="celery" if (n + rounds) % 2 else "stock") for n in range(8)
        ]
        body = theirs.echo.s().set(queue="celery" if rounds % 2 else "stock")
        made = their_chord(header, body)()
        until(made.ready, "the body")
        assert made.get(timeout=WAIT) == list(range(8))
    echo = ours.tasks["sample.echo"]
    lost = chord([echo.s(1), ours.signature("sample.fail", ("no",), queue="stock")], echo.s())()
    assert "ValueError('no')" in read(lost)[1]
