"""Commands of the user's own, under the module name that Celery gives them."""

from taskcore.control.panel import Panel, control_command, inspect_command

__all__ = ["Panel", "control_command", "inspect_command"]
