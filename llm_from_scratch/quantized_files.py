"""Quantized models as folders: written, described, and loaded in place.

Knows what a quantized model stores and under which names. Knows nothing
of how codes are made, and makes no float matrix on the way.
"""

from contextlib import ExitStack
from pathlib import Path

import torch
from torch import Tensor, nn

from .checkpoint import find_folder, read_config, save_checkpoint
from .devices import check_choice
from .gpt import GPT, GPTConfig, open_tensors
from .modern import ModernConfig, ModernGPT
from .quantization import QuantConfig, swap

KIND = "llm_from_scratch_quantized"  # model_type, which only we can read


def describe_quantized(
    model: nn.Module,  # of `quantize`
) -> dict:  # what `config.json` says of it
    "The configuration of the model it was made from, and the scheme."
    return {
        "model_type": KIND,
        "base": model.config.to_dict(),
        "quantization": model.quantization.to_dict(),
    }


def quantized_tensors(
    model: nn.Module,  # of `quantize`
) -> dict[str, Tensor]:  # name: the model's own tensor
    "What is stored, each tensor once."
    tied = model.config.tied
    return {
        name: tensor.contiguous()
        for name, tensor in model.state_dict().items()
        if not (tied and name.startswith("head."))
    }


def save_quantized(
    folder: str | Path,  # is made
    model: nn.Module,  # of `quantize`
    tokenizer=None,  # is written beside it; None: none
    *,
    overwrite: bool = False,  # False: an existing folder is an error
    meta: dict | None = None,  # told in config.json besides
) -> Path:  # the folder
    """Write config.json and model.safetensors, whole or not at all.

    Raises `ValueError` for a model that is not quantized, and
    `FileExistsError`.
    """
    if getattr(model, "quantization", None) is None:
        raise ValueError("the model is not quantized: call quantize first")
    options = {"meta": meta, "overwrite": overwrite}
    return save_checkpoint(folder, model, tokenizer, **options)


def load_quantized(
    source: str | Path,  # a folder of `save_quantized`
    *,
    device: torch.device | str | None = None,  # None: torch's default
    dtype: torch.dtype | None = None,  # of what is not quantized
    consent: bool | None = None,  # to download; None: ask in a terminal
) -> nn.Module:  # in evaluation mode
    """Load a quantized model without ever making the float one.

    Raises `FileNotFoundError`, and `ValueError` that names what is
    missing, misshapen, of another type or too much.
    """
    folder = find_folder(source, consent=consent)
    model = empty_model(read_config(folder), folder / "config.json")
    with ExitStack() as stack:
        stored = open_tensors(folder, stack)
        kind = check_types(quantized_tensors(model), stored)
        where = device or torch.get_default_device()
        model = model.to(kind).to_empty(device=where).eval()
        for name, tensor in quantized_tensors(model).items():
            tensor.copy_(stored[name][...])
    return model if dtype is None else model.to(dtype)


def empty_model(
    data: dict,  # of `describe_quantized`
    path: Path,  # where it stood, for errors
) -> nn.Module:  # on the device "meta": shapes without memory
    "The model as it will be, before a number is read."
    check_choice(f"{path}: model_type", data.get("model_type"), (KIND,))
    for key in ("base", "quantization"):
        if not isinstance(data.get(key), dict):
            raise ValueError(f"{path} has no {key!r}: it is not ours")
    base, config = data["base"], QuantConfig.from_dict(data["quantization"])
    plain = base.get("model_type") == "gpt2"
    kinds = (GPTConfig, GPT) if plain else (ModernConfig, ModernGPT)
    with torch.device("meta"):
        model = kinds[1](kinds[0].from_dict(base))
        return swap(model, config, fill=False)


def check_trainable(
    model: nn.Module,  # quantized or not
    name: str,  # what to call it in an error
) -> None:
    "Raise `ValueError` for a quantized model."
    if getattr(model, "quantization", None) is not None:
        raise ValueError(
            f"{name} is quantized, and codes learn nothing: tune the model "
            "that it was made from, then quantize the result"
        )


def storage(
    model: nn.Module,  # quantized or not
) -> tuple[int, int]:  # numbers it stands for; bytes that hold them
    "Count a model's numbers once, however they are stored."
    numbers, size, seen = 0, 0, set()
    for part in model.modules():
        if hasattr(part, "codes"):  # a QuantizedLinear, or a page's own
            numbers += part.in_features * part.out_features
            size += sum(x.nbytes for x in part.buffers(recurse=False))
        own = part.parameters(recurse=False)
        for p in (x for x in own if id(x) not in seen):
            seen.add(id(p))
            numbers, size = numbers + p.numel(), size + p.nbytes
    return numbers, size


TYPES = {
    "I8": torch.int8,
    "U8": torch.uint8,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
}


def check_types(
    wanted: dict[str, Tensor],  # of `quantized_tensors`
    stored: dict[str, object],  # of `open_tensors`
) -> torch.dtype:  # of what is not quantized
    "Raise `ValueError` that lists what is missing, too much or different."
    found = {
        name: (x.get_shape(), TYPES.get(x.get_dtype(), x.get_dtype()))
        for name, x in stored.items()
    }
    like = found.get("norm.weight", (None, None))[1]
    if like not in (torch.float16, torch.bfloat16, torch.float32):
        like = torch.float32
    parts = "codes", "scale", "absmax"  # their types are fixed
    right = {
        name: (
            list(x.shape),
            x.dtype if name.rpartition(".")[2].startswith(parts) else like,
        )
        for name, x in wanted.items()
    }
    gone, more = "missing", "wanted"
    faults = [
        f"{name} is {found.get(name, gone)}, not {right.get(name, more)}"
        for name in sorted(right.keys() | found.keys())
        if right.get(name) != found.get(name)
    ]
    if faults:
        shown = "; ".join(faults[:5] + ["…"] * (len(faults) > 5))
        raise ValueError(
            f"tensors and configuration differ in {len(faults)}: {shown}"
        )
    return like
