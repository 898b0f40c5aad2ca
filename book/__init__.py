"""Render the notebooks into a website and a PDF: `python -m book`.

    tree         pandoc, and its syntax tree with boxes of our own in it
    config       _quarto.yml, the chapters in order, a pass over a chapter
    cells, ansi  a code cell and what it printed
    structure    the tree of a chapter: cells and Quarto's divs as boxes
    references   numbers, cross-references, citations and links of the book
    site, pdf    the same tree as HTML pages and as Typst
    cli          the command

What a box looks like is said in assets/boxes.html and assets/book.typ; the
names, options and rules that all this obeys stand in assets/tables.yml.
"""
