"""Every code block of the guide runs, in the order of its page; see `support/page.py` for what the
comments mean."""

from pathlib import Path

import pytest

from support.page import LANGUAGES, Runner, blocks

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = sorted(path.name for path in DOCS.glob("*.md"))
KINDS = {"", "file", "output", "error", "not run"}


@pytest.mark.parametrize("name", PAGES)
def test_the_blocks_of_a_page_run(name: str, tmp_path: Path, redis_url: str) -> None:
    runner = Runner(tmp_path, redis_url)
    try:
        for block in blocks(DOCS / name):
            assert block.kind in KINDS and block.language in LANGUAGES, block
            assert block.kind != "not run" or block.value, "say why it is not run"
            runner.run(block)
        runner.stop()
    finally:
        runner.end()


def test_every_page_is_in_the_table_of_contents() -> None:
    index = (DOCS / "index.md").read_text()
    assert [
        name for name in PAGES if name != "index.md" and name.removesuffix(".md") not in index
    ] == []
