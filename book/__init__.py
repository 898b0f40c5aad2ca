"""Render the notebooks into a website and a PDF: `python -m book`.

    config       _quarto.yml: the chapters in order
    cells        a notebook as markdown; its code cells and their `outputs`
    structure    pandoc's tree of a chapter, Quarto's divs turned into boxes
    references   numbers, cross-references, citations and links of the book
    site, pdf    the same tree as HTML pages and as Typst
    cli          the command

`pandoc` runs the program and `tree` handles its syntax tree. What a box
looks like is said in assets/boxes.html and assets/book.typ.
"""
