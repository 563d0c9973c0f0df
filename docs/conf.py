"""How the pages of this folder become a site: `make docs` writes it to target/docs.

Two parts of it are not written by hand: the settings reference comes from the table that the
program itself reads, and the API reference from the signatures and docstrings of the installed
package, so neither can differ from what runs.
"""

import importlib
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import taskcore
from taskcore.app import registry
from taskcore.config import settings

for _name in ("Decorator", "BoundDecorator"):  # they exist for type checkers alone
    setattr(registry, _name, type(_name, (), {}))
registry.CoroutineTask = taskcore.Task

project = "taskcore"
author = "the taskcore developers"
copyright = author
version = release = taskcore.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["conf.py"]
source_suffix = {".md": "markdown"}
html_theme = "furo"
html_title = f"taskcore {version}"
html_copy_source = False
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
nitpicky = False


class Settings(SphinxDirective):
    """`{settings}`: the table of settings as definition lists, and the names that are only known."""

    def run(self) -> list[nodes.Node]:
        lines: list[str] = []
        for setting in settings.TABLE:
            default = "none" if setting.default is None else f"`{setting.default!r}`"
            lines += [f"({setting.name})=", f"`{setting.name}`", f": {setting.doc}", ""]
            lines += [f"  Type: `{setting.kind}`. Default: {default}.", ""]
            if setting.old:
                old = ", ".join(f"`{name}`" for name in setting.old.split())
                lines += [f"  Old names: {old}.", ""]
        container = nodes.container()
        self.state.nested_parse(StringList(lines, source="settings"), 0, container)
        return container.children


class Names(SphinxDirective):
    """`{names} NAME`: the names that a table of `taskcore.config.settings` lists, with their
    remedies where there are any."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        table: Any = getattr(settings, self.arguments[0])
        remedies = settings.REMEDIES
        lines = [
            f"* `{name}`" + (f": {remedies[name]}" if name in remedies else "")
            for name in sorted(table)
        ]
        container = nodes.container()
        self.state.nested_parse(StringList(lines, source="settings"), 0, container)
        return container.children


def setup(app: Sphinx) -> None:
    """Registers the directives."""
    importlib.import_module("taskcore")
    app.add_directive("settings", Settings)
    app.add_directive("names", Names)
