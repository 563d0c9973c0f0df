"""How the command line shows an error that is not its own: the user's part of the traceback, then
one sentence."""

import importlib
import os
import traceback
from types import TracebackType

import click

_PACKAGES = [
    os.path.dirname(os.path.abspath(str(module.__file__))) + os.sep for module in (click, importlib)
]
_PACKAGES.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep)


def traceback_of(error: BaseException) -> str:
    """The traceback of `error` from the first frame that is neither the command line's nor the
    import system's."""
    tb = error.__traceback__
    while tb is not None and _is_way_there(tb):
        tb = tb.tb_next
    # An error of ours has no other frames: then all of them are wanted.
    ours = isinstance(error, SyntaxError) or tb is not None
    return "".join(traceback.format_exception(error.with_traceback(tb) if ours else error))


def _is_way_there(tb: TracebackType) -> bool:
    file = tb.tb_frame.f_code.co_filename
    return file.startswith(("<frozen importlib", *_PACKAGES))
