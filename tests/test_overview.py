"The overview keeps its promise: the whole thing in 120 lines."

from pathlib import Path

from tools.notebook import load

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 120
# as the page says: figures, checks and one mistake do not count
APART = {"setup-figures", "wrong", "checks-a", "checks-b", "checks-c"}
BOOK = load(ROOT)
PAGE = next(x for x in BOOK.chapters if x.name == "overview")


def test_the_whole_thing_fits_into_the_lines_that_the_page_promises():
    ids = {x.id for x in PAGE.code}
    assert ids >= APART, f"renamed: {APART - ids}"
    counted = [
        x.length
        for x in PAGE.code
        if x.evaluated and not x.label and x.id not in APART
    ]
    assert 60 < sum(counted) < LIMIT
    assert f"fewer than {LIMIT} lines" in PAGE.prose


def test_every_chapter_but_the_overview_has_a_box_in_its_table():
    table = PAGE.prose.partition("{#sec-overview-boxes}")[2]
    numbered = [x.name for x in BOOK.chapters if "01" <= x.number <= "11"]
    assert len(numbered) > 5
    missing = [x for x in numbered if f"@sec-{x}" not in table]
    assert missing == []
