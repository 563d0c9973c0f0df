"""Signatures as Celery has written them: the same are made here, and what is read is kept."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from taskcore import Taskcore, chain, chord, group, signature

HERE = Path(__file__).parent
CAPTURED = json.loads((HERE / "signatures.json").read_text())


def made() -> dict[str, Any]:
    app = Taskcore("proj", broker="memory://", backend="memory://", set_as_current=False)
    add, mul, tsum = (app.task(name=f"proj.{n}")(print) for n in ("add", "mul", "tsum"))
    return {
        "sig": add.s(1),
        "immutable": add.si(1),
        "with opts": add.s(1).set(queue="q", countdown=3),
        "chain": chain(add.s(1, 2), mul.s(3)),
        "group": group(add.s(1, 2), add.s(3, 4)),
        "chord": chord([add.s(1, 2), add.s(3, 4)], tsum.s()),
        "map": add.map([1, 2]),
        "starmap": add.starmap([(1, 2)]),
        "chunks": add.chunks([(1, 2), (3, 4)], 1),
    }


@pytest.mark.parametrize("name", CAPTURED)
def test_a_signature_is_written_as_celery_writes_it(name: str) -> None:
    # Not compared as dicts: the order of the keys counts as well.
    assert json.dumps(made()[name]) == json.dumps(CAPTURED[name])


def embedded() -> Iterator[Any]:
    for line in (HERE / "messages.jsonl").read_text().splitlines():
        body = json.loads(line).get("body")
        if not isinstance(body, list) or len(body) != 3:
            continue
        for value in body[2].values():
            yield from value if isinstance(value, list) else [value] if value else []


def test_what_messages_carry_is_read_and_written_back() -> None:
    found = list(embedded())
    assert len(found) > 20
    for sig in found:
        assert json.dumps(signature(sig)) == json.dumps(sig)
