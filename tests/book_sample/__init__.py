"""A small book with every construct that the builder honours."""

import base64
import json
import struct
import zlib
from pathlib import Path

SETTINGS = """\
project: {type: book, output-dir: _book}
execute: {enabled: false}
book:
  title: Sample Book
  subtitle: Every construct once
  author: The authors
  date: "2026-11-20"
  downloads: [pdf]
  chapters:
    - index.qmd
    - part: First part
      chapters: [nbs/01_first.ipynb, nbs/02_second.ipynb]
    - references.qmd
bibliography: references.bib
format:
  html: {toc: true, toc-depth: 3}
  typst: {papersize: a4, toc: true}
"""
BIBLIOGRAPHY = """\
@article{vaswani2017,
  title = {Attention Is All You Need},
  author = {Vaswani, Ashish and Shazeer, Noam},
  journal = {NeurIPS},
  year = {2017}
}
"""
INDEX = """\
# Preface {.unnumbered}

Start with @sec-first. <!-- source: runs/x.json -->Read [the second
chapter](nbs/02_second.ipynb), [its end](nbs/02_second.ipynb#sec-end) or
the [licence](LICENSE).
"""
REFERENCES = "# References {.unnumbered}\n\n::: {#refs}\n:::\n"
SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="90pt" height="40pt"'
    ' viewBox="0 0 90 40"><rect x="2" y="2" width="86" height="36"'
    ' fill="#cfe3f7" stroke="#1f5a94"/></svg>'
)
TABLE = (
    "<style>th {color: red}</style><table class='dataframe'><thead><tr>"
    "<th></th><th>text</th><th>tokens</th></tr></thead><tbody><tr><th>0</th><td>prose</td>"
    "<td>241</td></tr></tbody></table>"
)


def png(width: int = 4, height: int = 3) -> str:
    "A grey PNG in base64."

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = (b"\0" + b"\x88" * width) * height
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head)
    data += chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return base64.b64encode(data).decode()


def md(text: str) -> dict:
    "A markdown cell."
    return {"cell_type": "markdown", "source": text.strip("\n")}


def code(text: str, *outputs: dict) -> dict:
    "A code cell with stored outputs."
    source = text.strip("\n")
    return {"cell_type": "code", "source": source, "outputs": [*outputs]}


def stream(text: str, name: str = "stdout") -> dict:
    "Printed text."
    return {"output_type": "stream", "name": name, "text": text}


def shown(kind: str, data: str) -> dict:
    "A displayed value; images come with text, as in Jupyter."
    values = {"text/plain": "<object>", kind: data}
    return {"output_type": "display_data", "data": values, "metadata": {}}


def error() -> dict:
    "A stored error with a coloured traceback."
    lines = [
        "\x1b[31mValueError\x1b[0m: no such token",
        "  \x1b[1;44mx\x1b[0m",
    ]
    return {"output_type": "error", "ename": "E", "traceback": lines}


def notebook(cells: list[dict]) -> str:
    "A notebook as JSON."
    for number, cell in enumerate(cells):
        cell |= {"id": f"c{number:02}", "metadata": {}}
    return json.dumps({"cells": cells, "nbformat": 4, "nbformat_minor": 5})


FIRST = [
    md("# First {#sec-first}\n\n> Text becomes numbers, and *back*."),
    code("#| default_exp first"),
    code("#| hide\nimport secret"),
    md("""
Byte-pair encoding [@vaswani2017, sec. 2] maps $V$ with $\\log x$.[^note]
See @fig-drawn, @fig-made, @fig-pair-2, @tbl-pipe, @tbl-html, @lst-loop,
@eq-zipf, @exr-trip, [-@eq-zipf], [Figs @fig-made] and @sec-second.
<!-- from: runs/first.json -->

[^note]: A note with `code`.

$$
c(r) \\approx \\frac{C}{r^{\\alpha}} \\otimes \\operatorname*{arg\\,max} x
$$ {#eq-zipf}

![A drawn figure.](images/box.svg){#fig-drawn fig-alt="A box" width=30%}

| a | b |
|---|--:|
| 中文 | 🙂 |

: Two columns. {#tbl-pipe}

::: {#fig-div layout-ncol=2}
![Left](images/box.svg){#fig-div-left fig-alt="A box"}

![Right](images/box.svg){#fig-div-right fig-alt="A box"}

Two drawn parts, of which @fig-div-right is the other.
:::

Term
:   Its definition.

## Counting {#sec-count}

Lines can be quoted:

> A quotation.
"""),
    code("""
#| export
def count(ids: list[int]) -> int:  # number of ids
    "Count `ids`."
    return len(ids)
"""),
    code("print(1)", stream("a\r 50%"), stream("\r100%\n\x1b[32mok\x1b[0m\n")),
    code(
        """
#| label: fig-made
#| fig-cap: >-
#|   A computed figure with
#|   $x^2$.
#| fig-alt: A grey box
#| code-fold: true
#| code-summary: "Show the code"
plot()
""",
        shown("image/svg+xml", SVG),
    ),
    md("::: {#fig-pair layout-ncol=2}"),
    code(
        '#| label: fig-pair-1\n#| fig-cap: Slow\n#| fig-alt: A "dot" on a \\\n'
        "#| echo: false\nplot()",
        shown("image/png", png()),
    ),
    code(
        "#| label: fig-pair-2\n#| fig-cap: Fast\n#| fig-alt: A box\n"
        "#| echo: false\nplot()",
        shown("image/png", png(5)),
    ),
    md("A pair\n:::"),
    code(
        "#| label: tbl-html\n#| tbl-cap: A frame\nframe",
        shown("text/html", TABLE),
    ),
    code(
        "#| lst-label: lst-loop\n#| lst-cap: The loop\nfor x in y:\n    pass",
        shown("text/markdown", "**bold** and $y$\n\n:::"),
        shown("text/plain", "````\n:::"),
    ),
    code("#| error: true\nboom()", error()),
    code("#| include: false\nx = 'not shown'"),
    code("#| output: false\ny = 'shown'", stream("not printed")),
    md("""
::: {.callout-tip .predict title="Predict first"}
How many tokens?
:::
"""),
    code("len(ids)", shown("text/plain", "42")),
    md("""
::: {.callout-note .answer collapse="true" title="Answer"}
Forty-two.
:::

::: {.callout-warning}
## Ties
Sort by `(-count, pair)`.
:::

::: {.callout-important}
No title here.
:::

::: {.panel-tabset}
## 0.2
"""),
    code(
        "#| echo: false\n#| fig-alt: cold\nplot(0.2)",
        shown("image/png", png()),
    ),
    md("## 1.2"),
    code(
        "#| echo: false\n#| fig-alt: hot\nplot(1.2)",
        shown("image/png", png()),
    ),
    md("""
:::

::: {.panel-tabset}
## PyTorch
```python
y = x
```
## NumPy
Text.
:::

## Hidden heading -

## Exercises

::: {#exr-trip}
## Round trip ★
Show that it holds.
:::
"""),
    code("#| eval: false\nanswer = ..."),
    md("After the stub. [Up](#sec-count)"),
    md('Text ![](images/heat.svg){fig-alt="Heat"} and $$a$$ inside.'),
]
SOLUTION = [
    md("# Solutions"),
    md("## Round trip {#sol-trip}\n\nIt holds, see @eq-zipf."),
    code("trip('x')", shown("text/plain", "'x solved'")),
]
SECOND = [
    md("# Second {#sec-second}\n\nNo subtitle.\n\n## End {#sec-end}\n\nEnd."),
]


def make(root: Path) -> Path:
    "Write the sample book below `root`."
    texts = {
        "_quarto.yml": SETTINGS,
        "references.bib": BIBLIOGRAPHY,
        "index.qmd": INDEX,
        "references.qmd": REFERENCES,
        "LICENSE": "free",
        "nbs/01_first.ipynb": notebook(FIRST),
        "nbs/02_second.ipynb": notebook(SECOND),
        "nbs/solutions/01_first.ipynb": notebook(SOLUTION),
        "nbs/images/box.svg": SVG,
        "nbs/images/heat.svg": SVG.replace("<rect", "<image"),
    }
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root
