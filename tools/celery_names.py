"""Writes `python/taskcore/contrib/celery_names.py`: what Celery has, and taskcore does not, by module.

Run it with both installed, after names have come or gone: `python tools/celery_names.py > FILE`.
"""

import importlib
import pkgutil
import textwrap
import warnings

import celery

from taskcore.contrib.celery_alias import target_of

LEFT_OUT = (
    "celery.__main__",
    "celery.apps",
    "celery.backends.",
    "celery.bin",
    "celery.concurrency.",
    "celery.contrib.pytest",
    "celery.contrib.rdb",
    "celery.contrib.sphinx",
    "celery.contrib.testing",
    "celery.events.cursesmon",
    "celery.fixups",
    "celery.loaders.",
    "celery.security.",
    "celery.utils.static",
)
"""Programs, and modules that need libraries of their own."""

HEAD = '''"""Names of Celery's that taskcore does not have, by module below `celery`. Written by
`tools/celery_names.py`, which compares the two."""

# fmt: off
MISSING: dict[str, str] = {'''


def names() -> dict[str, list[str]]:
    """The public names of Celery's modules, by what is behind `celery.`."""
    found = {"": sorted(celery.__all__)}
    for info in pkgutil.walk_packages(celery.__path__, "celery."):
        if info.name.startswith(LEFT_OUT) and info.name != "celery.backends.base":
            continue
        try:
            module = importlib.import_module(info.name)
        except ImportError:
            continue  # a library that it needs is not installed
        own = [k for k, v in vars(module).items() if getattr(v, "__module__", None) == info.name]
        listed = getattr(module, "__all__", None) or own
        found[info.name.removeprefix("celery.")] = sorted({n for n in listed if n[0] != "_"})
    return found


def missing() -> dict[str, list[str]]:
    """Those that taskcore does not have."""
    return {
        module: [one for one in listed if target_of(f"celery.{module}".rstrip("."), one) is None]
        for module, listed in sorted(names().items())
    }


def main() -> None:
    """Prints the file."""
    warnings.simplefilter("ignore")
    print(HEAD)
    for module, listed in missing().items():
        print(f'    "{module}":')
        lines = textwrap.wrap(" ".join(n for n in listed if n[0] != "_"), 110) or [""]
        for number, line in enumerate(lines, 1):
            print(f'        "{line} "' if number < len(lines) else f'        "{line}",')
    print("}\n# fmt: on")


if __name__ == "__main__":
    main()
