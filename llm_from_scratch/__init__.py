"""A large language model from raw bytes to chat, built in notebooks.

    from llm_from_scratch import BPETokenizer

    tokenizer = BPETokenizer.train("Lily lost her red ball.", 260)
    tokenizer.decode(tokenizer.encode("red ball"))

The public names are imported when first used, so that
`import llm_from_scratch` costs nothing and a tokenizer needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # for editors; at run time see __getattr__
    from .data import TokenFile, TokenLoader, write_tokens
    from .files import load_stories
    from .gpt import GPT, GPTConfig, load_gpt2
    from .stories import StoryWorld
    from .tokenization import BPETokenizer, train_bpe

__version__ = "0.1.0"

_HOMES = {
    "BPETokenizer": "tokenization",
    "train_bpe": "tokenization",
    "load_stories": "files",
    "StoryWorld": "stories",
    "TokenFile": "data",
    "TokenLoader": "data",
    "write_tokens": "data",
    "GPT": "gpt",
    "GPTConfig": "gpt",
    "load_gpt2": "gpt",
}
__all__ = [
    "GPT",
    "BPETokenizer",
    "GPTConfig",
    "StoryWorld",
    "TokenFile",
    "TokenLoader",
    "__version__",
    "load_gpt2",
    "load_stories",
    "train_bpe",
    "write_tokens",
]


def __getattr__(name: str):
    "Import a public name from its module when it is first asked for."
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    "The public names, for tab completion."
    return sorted([*globals(), *_HOMES])
