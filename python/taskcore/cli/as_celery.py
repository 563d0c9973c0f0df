"""`taskcore celery -A proj worker`: any command, for a project that imports Celery."""

import click

from taskcore.contrib.celery_alias import install


@click.command(
    "celery",
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="WORDS...")
@click.pass_context
def as_celery(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Run a command for a project that imports Celery.

    `import celery` means taskcore while it lasts, so that the project runs as it stands:
    `taskcore celery -A proj worker -l info`.
    """
    try:
        install()
    except RuntimeError as error:
        raise click.ClickException(str(error)) from error
    main = ctx.find_root().command
    code = main.main(list(words), prog_name="taskcore celery", standalone_mode=False)
    raise click.exceptions.Exit(code or 0)
