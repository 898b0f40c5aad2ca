"""Render the notebooks into a website and a PDF: `python -m book`."""
