"""How exceptions are written into result documents."""

from __future__ import annotations

from taskcore.results import exception_codec


def _raised(exc: Exception) -> Exception:
    try:
        raise exc
    except Exception as raised:
        return raised


def test_a_traceback_is_kept_whole() -> None:
    text = exception_codec.format_traceback(_raised(ValueError("no such city")))
    assert text.startswith("Traceback (most recent call last):")
    assert text.endswith("ValueError: no such city\n")


def test_the_middle_of_a_very_long_traceback_is_left_out() -> None:
    message = "x" * 5_000_000
    text = exception_codec.format_traceback(_raised(ValueError(message)))
    assert len(text) < 300_000
    assert text.startswith("Traceback (most recent call last):")
    assert "characters left out" in text
    assert text.endswith("xxx\n")
