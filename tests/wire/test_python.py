"""The Python layer against the captured bytes: every message is read, and what is published looks
like what Celery published."""

import base64
import json
import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from kombu.utils import json as kombu_json

from taskcore import _core
from taskcore.exceptions import OperationalError

LINES = (Path(__file__).parent / "messages.jsonl").read_text().splitlines()
VECTORS = [v for v in map(json.loads, LINES) if "envelope" in v]
LINKS = ("callbacks", "errbacks", "chain", "chord")


def captured(label: str) -> dict[str, Any]:
    return next(v["envelope"] for v in VECTORS if v["label"] == label)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v["label"])
def test_every_captured_message_is_read(vector: dict[str, Any]) -> None:
    envelope = vector["envelope"]
    message = _core.read_message(json.dumps(envelope).encode())
    headers = envelope["headers"] or vector["body"]
    assert message["task"] == headers["task"]
    assert message["id"] == headers["id"]
    assert message["retries"] == headers["retries"]
    assert message["protocol"] == "celery"
    if envelope["content-type"] != "application/json":
        return
    if isinstance(vector["body"], dict):
        assert message["args"] == vector["body"]["args"]
        assert message["kwargs"] == vector["body"]["kwargs"]
        assert message["callbacks"] == vector["body"]["callbacks"]
        return
    args, kwargs, embed = kombu_json.loads(json.dumps(vector["body"]))
    assert [message["args"], message["kwargs"]] == [args, kwargs]
    assert [message[name] or None for name in LINKS] == [embed[name] or None for name in LINKS]


@pytest.fixture
def server(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


QUEUE = "q"
"""Not Celery's default queue, which takes no compact messages."""


def popped(server: redis.Redis, key: str = QUEUE) -> Any:
    raw = server.rpop(key)
    assert isinstance(raw, bytes)
    return raw


def shape(value: Any) -> Any:
    """Names and types in order, which is all that two messages of different times have in common."""
    if isinstance(value, dict):
        return [(name, shape(inner)) for name, inner in value.items()]
    return type(value)


def test_a_plain_message_looks_like_celerys(redis_url: str, server: redis.Redis) -> None:
    template = _core.Template(
        "proj.add", queue="celery", protocol="celery", serializer="json", ignore_result=False
    )
    reply_to = "ee02fcbb-842b-377e-bef4-8ea324be9bb9"
    made = _core.Publisher(redis_url).publish(template, (2, 3), {}, {"reply_to": reply_to})
    ours, theirs = json.loads(popped(server, "celery")), captured("plain delay")
    assert shape(ours) == shape(theirs)
    assert ours["body"] == theirs["body"]
    volatile = {"id": made, "root_id": made, "origin": f"gen{os.getpid()}@{socket.gethostname()}"}
    assert ours["headers"] == theirs["headers"] | volatile
    tag = ours["properties"]["delivery_tag"]
    volatile = {"correlation_id": made, "delivery_tag": tag, "reply_to": reply_to}
    assert ours["properties"] == theirs["properties"] | volatile


def test_a_message_with_every_option_looks_like_celerys(
    redis_url: str, server: redis.Redis
) -> None:
    theirs = captured("all options")
    body = json.loads(base64.b64decode(theirs["body"]))
    template = _core.Template("proj.add", queue="celery", protocol="celery", serializer="json")
    fields = {
        "task_id": "my-fixed-id",
        "queue": "q2",
        "priority": 3,
        "eta": 1.8e9,
        "expires": 1.9e9,
        "headers": {"x-custom": "v"},
        "shadow": "alias",
        "time_limit": 30,
        "soft_time_limit": 20,
        "ignore_result": True,
        "retries": 1,
        "reply_to": theirs["properties"]["reply_to"],
        "callbacks": body[2]["callbacks"],
        "errbacks": body[2]["errbacks"],
    }
    _core.Publisher(redis_url).publish(template, (2,), {"y": 3}, fields)
    ours = json.loads(popped(server, "q2\x06\x163"))
    assert shape(ours) == shape(theirs)
    assert ours["body"] == theirs["body"]
    volatile = {name: ours["headers"][name] for name in ("eta", "expires", "origin")}
    assert ours["headers"] == theirs["headers"] | volatile
    assert ours["headers"]["eta"] == "2027-01-15T08:00:00+00:00"
    assert ours["properties"]["expiration"].isdigit()


def compressions() -> list[str]:
    """What this kombu can open."""
    from kombu.compression import encoders

    return list(encoders())


@pytest.mark.parametrize("serializer", ["json", "msgpack", "yaml", "pickle"])
@pytest.mark.parametrize("compression", [None, "gzip", "bzip2", "zstd"])
def test_kombu_opens_what_is_published(
    redis_url: str, server: redis.Redis, serializer: str, compression: str | None
) -> None:
    if compression == "zstd" and "application/zstd" not in compressions():
        pytest.skip("kombu has no zstd here")
    template = _core.Template(
        "proj.add",
        queue="celery",
        protocol="celery",
        serializer=serializer,
        compression=compression,
    )
    args, kwargs = [1, "ünï", [None, 2.5]], {"k": {"a": [True]}}
    _core.Publisher(redis_url).publish(template, args, kwargs)
    with Celery(broker=redis_url) as app, app.connection_for_read() as connection:
        queue = connection.SimpleQueue("celery", serializer="json")
        queue.consumer.accept = {
            "application/json",
            "application/x-msgpack",
            "application/x-yaml",
            "application/x-python-serialize",
        }
        message = queue.get(timeout=10)
        message.accept = queue.consumer.accept
        got_args, got_kwargs, embed = message.decode()
        message.ack()
    assert [list(got_args), got_kwargs] == [args, kwargs]
    assert embed == dict.fromkeys(LINKS)


@pytest.mark.parametrize("serializer", ["json", "msgpack"])
@pytest.mark.parametrize("compression", [None, "gzip", "bzip2", "zstd"])
@pytest.mark.parametrize("protocol", ["compact", "celery"])
def test_what_is_published_is_read_back(
    redis_url: str,
    server: redis.Redis,
    protocol: str,
    serializer: str,
    compression: str | None,
) -> None:
    template = _core.Template("proj.add", queue=QUEUE, protocol=protocol, serializer=serializer)
    signature = {"task": "proj.mul", "args": [10], "kwargs": {}, "options": {}}
    fields = {
        "compression": compression,
        "retries": 2,
        "priority": 1,
        "group": "g",
        "group_index": 4,
        "root_id": "root",
        "parent_id": "parent",
        "shadow": "other",
        "time_limit": 2.5,
        "soft_time_limit": 2,
        "ignore_result": True,
        "headers": {"x": [1, {"y": None}]},
        "stamps": {"s": ["a"]},
        "stamped_headers": ["s"],
        "replaced_task_nesting": 1,
        "callbacks": [signature],
        "chord": signature,
        "reply_to": "tc-me",
    }
    made = _core.Publisher(redis_url).publish(template, (1, b"\xff"), {"k": "v"}, fields)
    message = _core.read_message(popped(server))
    expected = {
        "id": made,
        "task": "proj.add",
        "args": [1, b"\xff"],
        "kwargs": {"k": "v"},
        "retries": 2,
        "group": "g",
        "group_index": 4,
        "root_id": "root",
        "parent_id": "parent",
        "shadow": "other",
        "ignore_result": True,
        "headers": {"x": [1, {"y": None}]},
        "stamps": {"s": ["a"]},
        "stamped_headers": ["s"],
        "replaced_task_nesting": 1,
        "callbacks": [signature],
        "errbacks": None,
        "chain": None,
        "chord": signature,
        "reply_to": "tc-me",
        "serializer": serializer,
        "queue": QUEUE,
        "protocol": protocol,
        "eta": None,
    }
    assert {name: message[name] for name in expected} == expected
    assert list(message["timelimit"]) == [2.5, 2]
    assert message["delivery_info"]["priority"] == 1


def test_a_small_compact_message_is_small(redis_url: str, server: redis.Redis) -> None:
    template = _core.Template("proj.tasks.add", queue=QUEUE)
    _core.Publisher(redis_url).publish(template, (2, 3), {}, {"reply_to": "tc-" + "0" * 32})
    assert len(popped(server)) < 200


def test_a_broker_that_does_not_answer_is_given_up_at_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        publisher = _core.Publisher(url, timeout=0.2, max_retries=None)
        with pytest.raises(OperationalError, match="cannot publish to"):
            publisher.publish(_core.Template("t", queue="q"), (), {})
        with pytest.raises(OperationalError, match="cannot publish to"):
            patient = _core.Publisher(url, timeout=60)
            patient.publish(_core.Template("t", queue="q"), (), {}, {"timeout": 0.2})
        # One deadline for the whole chunk, not one for each of its commands: those would add up to
        # minutes.
        many = [(_core.Template("t", queue=f"q{i}"), (), {}, None) for i in range(1000)]
        with pytest.raises(OperationalError, match="cannot publish to"):
            publisher.publish_each(many)


def test_a_forked_process_has_a_connection_of_its_own(redis_url: str, server: redis.Redis) -> None:
    publisher = _core.Publisher(redis_url)
    results = _core.Results(redis_url)
    template = _core.Template("t", queue=QUEUE)
    publisher.publish(template, (), {})
    results.put("parent", "SUCCESS", 1)
    if (child := os.fork()) == 0:
        code = 1
        try:
            for _ in range(200):
                publisher.publish(template, (), {})
                assert results.get(["parent", "nobody"])[1] is None
            results.put("child", "SUCCESS", 2)
            code = 0
        finally:
            os._exit(code)
    for _ in range(200):
        publisher.publish(template, (), {})
        stored = results.get(["parent"])[0]
        assert stored is not None
        assert stored["result"] == 1
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    stored = results.get(["child"])[0]
    assert stored is not None
    assert stored["result"] == 2
    assert len({_core.read_message(popped(server))["id"] for _ in range(401)}) == 401


def test_threads_share_a_publisher(redis_url: str, server: redis.Redis) -> None:
    publisher = _core.Publisher(redis_url)
    template = _core.Template("t", queue=QUEUE)
    with ThreadPoolExecutor(8) as threads:
        ids = list(threads.map(lambda i: publisher.publish(template, (i,), {}), range(400)))
    assert {_core.read_message(popped(server))["id"] for _ in range(400)} == set(ids)


def test_a_broker_that_is_down_is_an_operational_error_naming_the_url() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        port = taken.getsockname()[1]
        publisher = _core.Publisher(f"redis://user:secret@127.0.0.1:{port}/0", max_retries=1)
        template = _core.Template("t", queue="q")
        for publish in (
            lambda: publisher.publish(template, (), {}),
            lambda: publisher.publish_many(template, [()]),
        ):
            with pytest.raises(OperationalError, match=rf"127\.0\.0\.1:{port}") as info:
                publish()
            assert "secret" not in str(info.value)
            assert "2 attempts" in str(info.value)
        with pytest.raises(OperationalError):
            publisher.stats("q")
