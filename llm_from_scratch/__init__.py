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
    from .bands import check_my_run
    from .checkpoint import load_checkpoint as load
    from .data import TokenFile, TokenLoader, write_tokens
    from .files import load_stories
    from .generation import generate, stream
    from .gpt import GPT, GPTConfig, load_gpt2
    from .modern import ModernConfig, ModernGPT
    from .presets import pretrain
    from .pretraining import TrainConfig, train
    from .stories import StoryWorld
    from .tokenization import BPETokenizer, train_bpe

__version__ = "0.1.0"

_HOMES = {  # name → module, or module.name where it is called otherwise
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
    "load": "checkpoint.load_checkpoint",
    "ModernConfig": "modern",
    "ModernGPT": "modern",
    "TrainConfig": "pretraining",
    "train": "pretraining",
    "pretrain": "presets",
    "check_my_run": "bands",
    "generate": "generation",
    "stream": "generation",
}
__all__ = [
    "GPT",
    "BPETokenizer",
    "GPTConfig",
    "ModernConfig",
    "ModernGPT",
    "StoryWorld",
    "TokenFile",
    "TokenLoader",
    "TrainConfig",
    "__version__",
    "check_my_run",
    "generate",
    "load",
    "load_gpt2",
    "load_stories",
    "pretrain",
    "stream",
    "train",
    "train_bpe",
    "write_tokens",
]


def __getattr__(name: str):
    "Import a public name from its module when it is first asked for."
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home, _, own = _HOMES[name].partition(".")
    return getattr(import_module(f".{home}", __name__), own or name)


def __dir__() -> list[str]:
    "The public names, for tab completion."
    return sorted([*globals(), *_HOMES])
