"""`python -m book`: see `cli`."""

import sys

try:
    from .cli import main
except ModuleNotFoundError as error:
    needed = "pip install pypandoc_binary typst jinja2 pyyaml"
    sys.exit(f"error: {error.name} is missing: {needed}")

sys.exit(main())
