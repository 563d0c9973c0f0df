"""Serializers by name and content type."""

import json

import pytest

from taskcore import serialize
from taskcore.exceptions import ContentDisallowed, DecodeError, EncodeError, SerializerNotInstalled


@pytest.mark.parametrize("name", ["json", "msgpack", "pickle", "yaml"])
def test_every_serializer_reads_what_it_wrote(name: str) -> None:
    value = {"a": [1, 2.5, None, "é"]}
    content_type, encoding, data = serialize.dumps(value, name)
    assert content_type == serialize.content_type_of(name) and isinstance(data, bytes)
    assert serialize.loads(data, content_type, encoding) == value


def test_content_types_are_celerys() -> None:
    kombu = pytest.importorskip("kombu.serialization")
    for name in serialize.names():
        content_type, encoding, _ = kombu.dumps([1], name)
        assert serialize.find(name)[1:3] == (content_type, encoding)


def test_names_and_types_of_what_is_accepted() -> None:
    assert serialize.content_types(["json", "application/x-yaml"]) == [
        "application/json",
        "application/x-yaml",
    ]
    with pytest.raises(SerializerNotInstalled, match="did you mean `pickle`"):
        serialize.content_types(["pikle"])


def test_what_is_not_accepted_is_not_opened() -> None:
    _, encoding, data = serialize.dumps([1], "pickle")
    with pytest.raises(ContentDisallowed, match="python-serialize"):
        serialize.loads(data, "application/x-python-serialize", encoding, accept=["json"])


def test_errors_of_both_directions() -> None:
    with pytest.raises(EncodeError, match="pickle"):
        serialize.dumps(lambda: 0, "pickle")
    with pytest.raises(EncodeError):
        serialize.dumps(object(), "yaml")
    with pytest.raises(DecodeError, match="pickle"):
        serialize.loads(b"no", "application/x-python-serialize", "binary")
    with pytest.raises(DecodeError):
        serialize.loads(b"\xff", "application/json", "utf-8")
    with pytest.raises(SerializerNotInstalled, match="application/none"):
        serialize.loads(b"", "application/none")


def test_a_serializer_of_ones_own() -> None:
    serialize.register(
        "upper",
        lambda value: json.dumps(value).upper(),
        lambda text: json.loads(text.lower()),
        "text/x-upper",
    )
    try:
        content_type, encoding, data = serialize.dumps(["a"], "upper")
        assert (content_type, encoding, data) == ("text/x-upper", "utf-8", b'["A"]')
        assert serialize.loads(data, content_type, encoding) == ["a"]
    finally:
        serialize.unregister("upper")
    with pytest.raises(SerializerNotInstalled):
        serialize.dumps(1, "upper")


def test_what_the_program_has_registered_with_kombu_is_known() -> None:
    kombu = pytest.importorskip("kombu.serialization")
    kombu.register("lower", str.upper, str.lower, "text/x-lower", "utf-8")
    try:
        assert serialize.dumps("a", "lower") == ("text/x-lower", "utf-8", b"A")
        assert serialize.loads(b"A", "text/x-lower") == "a"
        assert serialize.content_types(["lower"]) == ["text/x-lower"]
    finally:
        kombu.unregister("lower")
    with pytest.raises(SerializerNotInstalled):
        serialize.find("lower")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(SerializerNotInstalled, match=r"taskcore\[yaml\]"):
        serialize.dumps(1, "yaml")
