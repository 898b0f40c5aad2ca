"""A tuned model in a folder that other programs can talk to.

Knows what transformers reads beside a checkpoint. Knows nothing of how
the model was tuned.
"""

import json
from pathlib import Path

from torch import nn

from .checkpoint import new_folder, write_model
from .files import END
from .instructions import STOP, TEMPLATE, special_id
from .tokenization import BPETokenizer


def save_chat_model(
    folder: str | Path,  # is made
    model: nn.Module,  # tuned
    tokenizer: BPETokenizer,  # with `START` and `STOP`
    *,
    meta: dict | None = None,  # told beside the sizes in config.json
    card: str = "",  # model_card.md; "": none is written
    overwrite: bool = False,  # False: an existing folder is an error
) -> Path:  # the folder
    """A checkpoint that also tells transformers how to talk to it.

    `tokenizer_config.json` has the chat template, `generation_config.json`
    the token that ends an answer. Raises `FileExistsError`.
    """
    ids = {"eos_token_id": special_id(tokenizer, STOP)}
    told = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": STOP}
    told |= {"chat_template": TEMPLATE, "pad_token": END}
    told |= {"model_max_length": model.config.context_len}
    told |= {"clean_up_tokenization_spaces": False}
    with new_folder(folder, overwrite=overwrite) as new:
        write_model(new, model, tokenizer, meta=meta, card=card)
        for name, data in (("tokenizer", told), ("generation", ids)):
            path = new / f"{name}_config.json"
            path.write_text(json.dumps(data, indent=2) + "\n", "utf-8")
    return Path(folder)
