"""Celery's commands and options on our command line: they work, or one sentence says what to do
instead."""

from typing import Any

import click
import pytest
from click.testing import CliRunner

from taskcore import unsupported
from taskcore.cli import main
from taskcore.cli.worker import worker


def answer(*words: str) -> str:
    result = CliRunner().invoke(main, list(words))
    assert result.exit_code == 2, result.output
    return result.output.replace("\n", " ")


def options(command: click.Command) -> set[str]:
    return {word for param in command.params for word in (*param.opts, *param.secondary_opts)}


@pytest.mark.parametrize("name", sorted(unsupported.POOLS))
def test_a_pool_that_is_not_here(name: str) -> None:
    said = answer("-A", "proj", "worker", "-P", name)
    assert f"`{name}` of Celery's is not in this version" in said and "async def" in said


def test_the_help_of_dead_letters_is_whole_sentences() -> None:
    said = CliRunner().invoke(main, ["dead", "--help"]).output
    assert "..." not in said.partition("Commands:")[2]


@pytest.mark.parametrize("name", sorted(unsupported.COMMANDS))
def test_a_command_that_is_not_here(name: str) -> None:
    assert f"`{name}` of Celery's is not in this version" in answer("-A", "proj", name, "more")


@pytest.mark.parametrize("name", sorted(unsupported.WORKER_OPTIONS))
def test_an_option_of_worker_that_is_not_here(name: str) -> None:
    assert f"`{name}` of Celery's is not in this version" in answer("-A", "proj", "worker", name)


@pytest.mark.parametrize("name", sorted(unsupported.PROGRAM_OPTIONS))
def test_an_option_of_the_program_that_is_not_here(name: str) -> None:
    assert f"`{name}` of Celery's is not in this version" in answer(name, "-A", "proj", "queues")


def test_what_nobody_knows_is_the_ordinary_sentence() -> None:
    assert "No such command 'wroker'" in answer("-A", "proj", "wroker")
    assert "Did you mean '--concurrency'" in answer("-A", "proj", "worker", "--concurency", "2")


def test_every_word_of_celerys_is_known_in_some_way() -> None:
    stock: Any = pytest.importorskip("celery.bin.celery").celery
    assert options(stock) <= options(main) | unsupported.PROGRAM_OPTIONS.keys()
    wanted = options(stock.commands["worker"]) - {"-f", "--logfile"}
    assert wanted <= options(worker) | unsupported.WORKER_OPTIONS.keys()
    assert stock.commands.keys() <= main.commands.keys() | unsupported.COMMANDS.keys()
