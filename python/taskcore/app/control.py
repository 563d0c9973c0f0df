"""Remote control, under the module name that Celery gives it."""

from taskcore.control.control import Control
from taskcore.control.inspect import Inspect
from taskcore.control.replies import flatten_reply

__all__ = ["Control", "Inspect", "flatten_reply"]
