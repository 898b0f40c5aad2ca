"The notebooks keep the style guide's rules; see tools/check_notebooks."

from pathlib import Path

import pytest

from tools.check_notebooks import check
from tools.notebook import load

ROOT = Path(__file__).resolve().parent.parent
BOOK = load(ROOT)
PAGES = [x.page for x in (*BOOK.chapters, *BOOK.answers.values())]


@pytest.fixture(scope="module")
def faults():
    "What is wrong in the whole book."
    return [x for x in check(BOOK) if x.fault]


@pytest.mark.parametrize("page", PAGES)
def test_notebook_keeps_the_rules(faults, page):
    assert [str(x) for x in faults if x.page == page] == []


def test_other_pages_keep_the_rules(faults):
    assert [str(x) for x in faults if x.page not in PAGES] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_cell_has_its_own_id(page):
    books = (*BOOK.chapters, *BOOK.answers.values())
    cells = next(x for x in books if x.page == page).cells
    assert len({x.id for x in cells}) == len(cells)
