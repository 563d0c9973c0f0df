"""Result documents in another form than plain JSON: by another serializer, or compressed.

The document is Celery's: the whole dict by the one serializer, without a word about which one, so
that whoever reads it must be configured alike. As far as the bytes tell, the built-in serializers are
told apart all the same, so that a store that was JSON can be changed over. What is opened is decided
here, by `result_accept_content`. Compression is the core's.
"""

from __future__ import annotations

from typing import Any

from taskcore import serialize, states
from taskcore.exceptions import ContentDisallowed, DecodeError
from taskcore.results import exception_codec

_BUILT_IN = frozenset({"json", "msgpack", "pickle", "yaml"})


class Encoding:
    """How documents are written and read; the core calls it where they are not plain JSON."""

    def __init__(self, serializer: str, compression: str | None, accept: tuple[str, ...]) -> None:
        """
        Args:
            serializer: name of the serializer that writes, and reads what is none of the built-in
                ones.
            compression: name of the compression, or None.
            accept: serializers and content types that are opened. JSON always is.
        Raises:
            SerializerNotInstalled: there is no such serializer.
        """
        self.compression = compression
        self._accept = accept
        self._own = serialize.find(serializer)
        self.serializer = self._own.name

    def encode(self, value: Any) -> bytes:
        """A document, or the member of a chord, as bytes.

        Raises:
            EncodeError: the serializer cannot write it.
        """
        return serialize.dumps(value, self.serializer)[2]

    def decode(self, data: bytes) -> Any:
        """What `encode` gave, here or elsewhere.

        Raises:
            ContentDisallowed: `result_accept_content` does not name its serializer.
            DecodeError: the bytes are not valid.
        """
        kind = self._kind(data)
        if kind.name != "json" and kind.content_type not in serialize.content_types(self._accept):
            risk = (
                "; that lets whoever can write to the result store run code"
                if kind.name == "pickle"
                else ""
            )
            raise ContentDisallowed(
                f"a result document in `{kind.name}` is refused: expected one of {', '.join(self._accept)}; "
                f"add it to `result_accept_content` to open it{risk}"
            )
        return self._decode(data, kind)

    def reopen(self, data: bytes) -> Any:
        """As `decode`, for what this worker has written itself."""
        return self._decode(data, self._kind(data))

    def member(self, data: bytes) -> tuple[str, str, Any]:
        """Id, state and, if it failed, exception (as in a JSON document) of the member of a chord.

        Raises:
            ContentDisallowed, DecodeError: as `decode`.
        """
        part = self.decode(data)
        if not isinstance(part, (list, tuple)) or len(part) != 4:
            raise DecodeError(
                f"the member of a chord is `{part!r:.100}`: expected the list of 1, id, state and result"
            )
        _, task_id, state, result = part
        failed = state in states.PROPAGATE_STATES
        if failed and isinstance(result, BaseException):
            result = exception_codec.to_document(result)
        return task_id, state, result if failed else None

    def _decode(self, data: bytes, kind: serialize.Serializer) -> Any:
        return serialize.loads(data, kind.content_type, kind.content_encoding)

    def _kind(self, data: bytes) -> serialize.Serializer:
        return self._own if self.serializer not in _BUILT_IN else serialize.find(_written_by(data))


def _written_by(data: bytes) -> str:
    """Which of the built-in serializers wrote a document or the member of a chord."""
    first = data[:1]
    if first in (b"{", b"["):
        return "json"
    if first == b"\x80":
        return "pickle"  # in MessagePack an empty dict, which is no document
    return "msgpack" if first > b"\x80" else "yaml"
