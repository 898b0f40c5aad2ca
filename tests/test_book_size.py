"The book builder stays small enough to be read in an evening."

import ast
import io
import tokenize
from pathlib import Path

BOOK = Path(__file__).parents[1] / "book"
LIMIT = 1000  # lines of code: no blank lines, comments or docstrings
LAYOUT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef)


def code_lines(source: str) -> int:
    "How many lines of a module hold code."
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in LAYOUT:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        documented = isinstance(node, DOCUMENTED)
        if documented and ast.get_docstring(node) is not None:
            text = node.body[0]
            lines -= set(range(text.lineno, text.end_lineno + 1))
    return len(lines)


def test_counting():
    "Blank lines, comments and docstrings do not count."
    source = '"""Two\nlines."""\n\n# why\nx = [\n    1,  # one\n]\n'
    assert code_lines(source) == 3
    assert code_lines('def f():\n    "Do."\n    return """a\nb"""\n') == 3


def test_size():
    "All modules together stay within the limit."
    sizes = {
        path.name: code_lines(path.read_text(encoding="utf-8"))
        for path in BOOK.glob("*.py")
    }
    assert sum(sizes.values()) <= LIMIT, sizes
