"""`taskcore upgrade settings`: old names of settings in a file, under their new names."""

import tokenize
from pathlib import Path

import click

from taskcore.config.upgrade import upgraded


@click.group()
def upgrade() -> None:
    """Change what is written for an older version."""


@upgrade.command()
@click.argument("filename", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--django", is_flag=True, help="Django's settings: new names begin with CELERY_.")
@click.option("--compat", is_flag=True, help="The same, for other programs that read the file.")
@click.option("--no-backup", is_flag=True, help="Keep no copy with `.orig` behind its name.")
def settings(filename: Path, django: bool, compat: bool, no_backup: bool) -> None:
    """Write the old, capitalised names of settings in FILENAME as they are called today."""
    try:
        with tokenize.open(filename) as file:
            encoding = file.encoding
        before = filename.read_bytes().decode(encoding)
        after = upgraded(before, "CELERY_" if django or compat else "")
    except (SyntaxError, UnicodeDecodeError) as error:
        raise click.ClickException(
            f"`{filename}` is not a module of Python ({error}): expected one with settings"
        ) from error
    if after == before:
        click.echo(f"`{filename}` has no old names of settings")
        return
    if not no_backup:
        copy = filename.with_name(f"{filename.name}.orig")
        copy.write_bytes(before.encode(encoding))
        click.echo(f"the file as it was is `{copy}`", err=True)
    filename.write_bytes(after.encode(encoding))
    click.echo(f"`{filename}` has the new names of settings")
