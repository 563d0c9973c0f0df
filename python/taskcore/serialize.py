"""Serializers by name and by content type: json, msgpack, pickle, yaml, and what the user
registers.

json and msgpack are the core's own, with Celery's typed values (datetime, Decimal, UUID, bytes,
...). The others are Python's; the packages that they need are imported on first use. This module
decides how bytes are written and read; it does not decide what a worker opens: that is
`accept_content`, enforced by the core. Whoever adds `pickle` there lets anyone who can write to
the queue run code in the worker.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from taskcore import _core
from taskcore.exceptions import ContentDisallowed, DecodeError, EncodeError, SerializerNotInstalled
from taskcore.utils import hint

_BINARY = frozenset({"binary", "ascii-8bit"})


class Serializer(NamedTuple):
    """One way to write values."""

    name: str
    content_type: str
    content_encoding: str
    encode: Callable[[Any], bytes | str]
    decode: Callable[[Any], Any]


def _to_pickle(value: Any) -> bytes:
    import pickle

    return pickle.dumps(value, protocol=4)


def _from_pickle(data: bytes) -> Any:
    import pickle

    return pickle.loads(data)  # noqa: S301 - as above


def _yaml() -> Any:
    try:
        import yaml
    except ImportError as exc:
        raise SerializerNotInstalled(
            "serializer `yaml` needs the package pyyaml: pip install 'taskcore[yaml]'"
        ) from exc
    return yaml


def _to_yaml(value: Any) -> str:
    return str(_yaml().safe_dump(value, allow_unicode=True))


def _from_yaml(data: str) -> Any:
    return _yaml().safe_load(data)


_by_name: dict[str, Serializer] = {}
_by_type: dict[str, Serializer] = {}


def register(
    name: str,
    encoder: Callable[[Any], bytes | str],
    decoder: Callable[[Any], Any],
    content_type: str,
    content_encoding: str = "utf-8",
) -> None:
    """Adds a serializer, or replaces one of the same name.

    Args:
        encoder: value to bytes (or text, which is then written in `content_encoding`).
        decoder: the reverse; gets bytes when `content_encoding` is `binary`, text otherwise.
    """
    serializer = Serializer(name, content_type, content_encoding, encoder, decoder)
    _by_name[name] = serializer
    _by_type[content_type] = serializer


def unregister(name: str) -> None:
    """Removes a serializer.

    Raises:
        SerializerNotInstalled: there is none of that name.
    """
    serializer = find(name)
    del _by_name[name]
    del _by_type[serializer.content_type]


def find(name: str) -> Serializer:
    """The serializer called `name`, which may also be its content type.

    Raises:
        SerializerNotInstalled: there is none.
    """
    serializer = _by_name.get(name) or _by_type.get(name) or _of_kombu(name)
    if serializer is None:
        known = ", ".join(sorted(_by_name))
        raise SerializerNotInstalled(
            f"unknown serializer `{name}`{hint(name, _by_name)}: expected one of {known}, or one added with register()"
        )
    return serializer


def _of_kombu(name: str) -> Serializer | None:
    """One that the program has registered with kombu, as Celery's programs do."""
    kombu = sys.modules.get("kombu.serialization")
    if kombu is None:
        return None
    registry = kombu.registry
    name = registry.type_to_name.get(name, name)
    if name not in registry._encoders:
        return None
    content_type, encoding, encode = registry._encoders[name]
    return Serializer(name, content_type, encoding, encode, registry._decoders[content_type])


def names() -> list[str]:
    """The names of all serializers."""
    return sorted(_by_name)


def content_type_of(name: str) -> str:
    """The content type of the serializer called `name`.

    Raises:
        SerializerNotInstalled: there is none.
    """
    return find(name).content_type


def content_types(accept: Iterable[str]) -> list[str]:
    """`accept_content` as content types: names of serializers are translated, content types kept as
    they are."""
    return [
        item if item not in _by_name and "/" in item else content_type_of(item) for item in accept
    ]


def dumps(value: Any, name: str) -> tuple[str, str, bytes]:
    """Encodes a value; gives content type, content encoding and the bytes.

    Raises:
        EncodeError: the serializer cannot write the value.
        SerializerNotInstalled: there is no such serializer, or its package is missing.
    """
    serializer = find(name)
    try:
        data = serializer.encode(value)
    except (EncodeError, SerializerNotInstalled):
        raise
    except Exception as exc:
        raise EncodeError(
            f"cannot write a value of type `{type(value).__name__}` as {serializer.name}: {exc}"
        ) from exc
    encoded = data.encode(serializer.content_encoding) if isinstance(data, str) else data
    return serializer.content_type, serializer.content_encoding, encoded


def loads(
    data: bytes,
    content_type: str,
    content_encoding: str = "utf-8",
    accept: Iterable[str] | None = None,
) -> Any:
    """Decodes what `dumps` wrote.

    Args:
        accept: content types that may be opened; None means any that is registered.
    Raises:
        ContentDisallowed: `accept` does not name the content type.
        DecodeError: the bytes are not valid.
        SerializerNotInstalled: nobody registered the content type.
    """
    if accept is not None and content_type not in content_types(accept):
        raise ContentDisallowed(
            f"content type `{content_type}` is refused: add its serializer to accept_content"
        )
    serializer = find(content_type)
    try:
        return serializer.decode(
            data if content_encoding.lower() in _BINARY else data.decode(content_encoding)
        )
    except (DecodeError, SerializerNotInstalled):
        raise
    except Exception as exc:
        raise DecodeError(f"body is not valid {serializer.name}: {exc}") from exc


def _native(data: bytes | str, name: str) -> Any:
    return _core.loads(data.encode() if isinstance(data, str) else data, name)


register(
    "json",
    lambda value: _core.dumps(value, "json"),
    lambda data: _native(data, "json"),
    "application/json",
)
register(
    "msgpack",
    lambda value: _core.dumps(value, "msgpack"),
    lambda data: _native(data, "msgpack"),
    "application/x-msgpack",
    "binary",
)
register("pickle", _to_pickle, _from_pickle, "application/x-python-serialize", "binary")
register("yaml", _to_yaml, _from_yaml, "application/x-yaml")
