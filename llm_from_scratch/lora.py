"""Draft of what chapter 14 exports."""

import hashlib
import json
import math
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from llm_from_scratch.checkpoint import _read_object as read_object, new_folder
from llm_from_scratch.devices import check_range
from llm_from_scratch.modern import _NAMES, modern_tensors


@dataclass(frozen=True, kw_only=True)
class LoRAConfig:
    "Which matrices get an adapter, and of which size."

    rank: int = 8  # r, of the product that is added
    alpha: float = 16.0  # the product is multiplied by alpha / rank
    dropout: float = 0.0  # of what the adapters read, in training
    targets: tuple[str, ...] = ("q_proj", "v_proj")  # last part of names

    def __post_init__(self):
        if type(self.rank) is not int or self.rank < 1:
            raise ValueError(
                f"rank={self.rank!r} must be a whole number of at least 1"
            )
        check_range("alpha", self.alpha, 0, math.inf)
        check_range("dropout", self.dropout, 0, 1)
        if not self.targets or isinstance(self.targets, str):
            raise ValueError(
                f"targets={self.targets!r} must be a tuple of names, such as "
                '("q_proj", "v_proj")'
            )

    @property
    def scale(self) -> float:
        "What the product is multiplied by."
        return self.alpha / self.rank


class LoRALinear(nn.Module):
    "A frozen linear map, and a product of two thin matrices beside it."

    def __init__(
        self,
        base: nn.Module,  # with in_features and out_features
        config: LoRAConfig,  # rank, scale and dropout
        *,
        generator: torch.Generator | None = None,  # of the first weights
    ):
        """Begin as the base: B is zero. Raises `ValueError` for a rank
        above the smaller side."""
        super().__init__()
        n_in, n_out = base.in_features, base.out_features
        if config.rank > min(n_in, n_out):
            raise ValueError(
                f"rank={config.rank} is above {min(n_in, n_out)}, the smaller "
                f"side of a {n_out} x {n_in} matrix: it would save nothing"
            )
        self.base, self.config = base, config
        like = {"device": base.weight.device, "dtype": base.weight.dtype}
        bound = 1 / math.sqrt(n_in)  # as nn.Linear and peft begin
        a = torch.empty(config.rank, n_in)
        a.uniform_(-bound, bound, generator=generator)
        self.lora_A = nn.Parameter(a.to(**like))  # (r, in)
        self.lora_B = nn.Parameter(torch.zeros(n_out, config.rank, **like))

    def forward(
        self,
        x: Tensor,  # (..., in)
    ) -> Tensor:  # (..., out)
        "What the base says, and the correction."
        p = self.config.dropout if self.training else 0.0
        low = F.linear(F.dropout(x, p), self.lora_A)  # (..., r)
        return self.base(x) + F.linear(low, self.lora_B) * self.config.scale

    @torch.no_grad()
    def update(self) -> Tensor:
        "The matrix that is added to the base's, (out, in)."
        return self.lora_B @ self.lora_A * self.config.scale


def adapters(
    model: nn.Module,  # any
) -> Iterator[tuple[str, LoRALinear]]:  # name in the model, adapter
    "All adapters of a model."
    for name, part in model.named_modules():
        if isinstance(part, LoRALinear):
            yield name, part


def make_adapters(
    model: nn.Module,  # is not changed
    config: LoRAConfig,  # where, and which
    generator: torch.Generator | None = None,  # of the first weights
) -> dict[str, LoRALinear]:  # name of a map in the model, its adapter
    "Raises `ValueError` for unknown targets and for too large a rank."
    bases = {
        name.removesuffix(".base"): part
        for name, part in model.named_modules()
        if hasattr(part, "in_features") and hasattr(part, "out_features")
    }
    names = {name.rpartition(".")[2] for name in bases}
    if unknown := sorted({*config.targets} - names):
        raise ValueError(
            f"targets={unknown} are not in the model, whose maps are "
            f"{sorted(names)}"
        )
    return {
        name: LoRALinear(part, config, generator=generator)
        for name, part in bases.items()
        if name.rpartition(".")[2] in config.targets
    }


def add_adapters(
    model: nn.Module,  # changed in place
    config: LoRAConfig,  # where, and which
    *,
    generator: torch.Generator | None = None,  # of the first weights
) -> nn.Module:  # the same
    """Freeze a model and put adapters beside its targets.

    Raises, before anything is changed, `ValueError` if the model has
    adapters, and what `make_adapters` raises.
    """
    if name := next((name for name, _ in adapters(model)), None):
        raise ValueError(
            f"the model has adapters already, such as {name}: merge_adapters "
            "or remove_adapters first"
        )
    return put(model, make_adapters(model, config, generator))


def put(
    model: nn.Module,  # changed in place
    made: dict[str, LoRALinear],  # of `make_adapters`
) -> nn.Module:  # the same
    "Freeze a model, and put these adapters in place of all others."
    remove_adapters(model).requires_grad_(False)
    for name, adapter in made.items():
        adapter.lora_A.requires_grad_(True)
        adapter.lora_B.requires_grad_(True)
        model.set_submodule(name, adapter)
    return model


def remove_adapters(
    model: nn.Module,  # changed in place
) -> nn.Module:  # the same
    "Go back to the base. Its weights stay frozen."
    for name, adapter in [*adapters(model)]:
        model.set_submodule(name, adapter.base)
    return model


@torch.no_grad()
def merge_adapters(
    model: nn.Module,  # changed in place
) -> nn.Module:  # the same, with plain maps
    "Add every product to its matrix, so that nothing is left to compute."
    for name, adapter in [*adapters(model)]:
        base = adapter.base
        if not isinstance(base, nn.Linear):
            raise TypeError(
                f"{name} is a {type(base).__name__}, to which nothing can be "
                "added: merge into the model that it was made from"
            )
    for name, adapter in [*adapters(model)]:
        adapter.base.weight += adapter.update()
        model.set_submodule(name, adapter.base)
    return model


def base_digest(
    model: nn.Module,  # with or without adapters
) -> str:  # the same in float32 and bfloat16
    "Which model an adapter belongs to, as a hash of the frozen weights."
    told = hashlib.sha256()
    for name, tensor in sorted(modern_tensors(model).items()):
        if ".lora_" not in name:
            told.update(name.replace(".base.", ".").encode())
            bits = tensor.detach().cpu().bfloat16().contiguous()
            told.update(bits.view(torch.int16).numpy().tobytes())
    return told.hexdigest()


_PREFIX = "base_model.model."
_OTHERS = {  # what peft can do and these adapters do not
    "peft_type": "LORA",
    "bias": "none",
    "fan_in_fan_out": False,
    "use_rslora": False,
    "use_dora": False,
    "lora_bias": False,
    "rank_pattern": {},
    "alpha_pattern": {},
    "modules_to_save": None,
    "layers_to_transform": None,
}


def theirs_of(
    ours: str,  # a name in `ModernGPT`
) -> str:  # Hugging Face's
    "As `modern_tensors` names."
    return ".".join(_NAMES.get(part, part) for part in ours.split("."))


def adapter_tensors(
    model: nn.Module,  # with adapters
) -> dict[str, Tensor]:  # peft's name: the model's own tensor
    "The adapters alone. Raises `ValueError` if there are none."
    found = {
        f"{_PREFIX}{name}.weight": tensor
        for name, tensor in modern_tensors(model).items()
        if ".lora_" in name
    }
    if not found:
        raise ValueError("the model has no adapters: add_adapters makes them")
    return found


def save_adapter(
    folder: str | Path,  # is made
    model: nn.Module,  # with adapters
    *,
    base: str | None = None,  # name of the base, told in the file
    overwrite: bool = False,  # False: an existing folder is an error
) -> Path:  # the folder
    """Write the adapters alone, as peft does.

    Raises `ValueError` for a model without adapters, `FileExistsError`.
    """
    tensors = adapter_tensors(model)
    config = next(adapters(model))[1].config
    told = _OTHERS | {
        "base_model_name_or_path": base,
        "task_type": "CAUSAL_LM",
        "inference_mode": True,
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "target_modules": sorted({name.split(".")[-3] for name in tensors}),
    }
    meta = {"format": "pt", "base": base_digest(model)}
    with new_folder(folder, overwrite=overwrite) as new:
        text = json.dumps(told, indent=2) + "\n"
        (new / "adapter_config.json").write_text(text, encoding="utf-8")
        save_file(
            {name: x.contiguous() for name, x in tensors.items()},
            new / "adapter_model.safetensors",
            metadata=meta,
        )
    return Path(folder)


def read_adapter_config(
    folder: Path,  # with adapter_config.json
    model: nn.Module,  # whose maps it names
) -> LoRAConfig:
    "Raises `ValueError` for what these adapters cannot do."
    path = folder / "adapter_config.json"
    data = read_object(path)
    for key, value in _OTHERS.items():
        if (found := data.get(key, value)) not in (value, None):
            raise ValueError(f"{path}: {key}={found!r} is not {value!r}")
    wanted = data.get("target_modules")
    if not isinstance(wanted, list) or not wanted:
        raise ValueError(
            f"{path}: target_modules={wanted!r} must be a list of names"
        )
    maps = {
        name.removesuffix(".base").rpartition(".")[2]
        for name, part in model.named_modules()
        if hasattr(part, "in_features")
    }
    ours = {theirs_of(name): name for name in maps}
    if unknown := sorted({*wanted} - ours.keys()):
        raise ValueError(
            f"{path}: target_modules={unknown} are not in the model, which "
            f"has {sorted(ours)}"
        )
    return LoRAConfig(
        rank=data["r"],
        alpha=data["lora_alpha"],
        dropout=data.get("lora_dropout", 0.0),
        targets=tuple(ours[name] for name in wanted),
    )


def load_adapter(
    model: nn.Module,  # changed in place
    folder: str | Path,  # of `save_adapter`, or of peft
    *,
    check_base: bool = True,  # False: for another form of its base
) -> nn.Module:  # the same, with these adapters and no others
    """Put saved adapters on their base; others that it has are removed.

    Raises `FileNotFoundError`, and `ValueError`, before anything is
    changed, for an adapter of another base or of another kind.
    """
    folder = Path(folder)
    if not (folder / "adapter_config.json").is_file():
        raise FileNotFoundError(f"{folder} holds no adapter_config.json")
    made = make_adapters(model, read_adapter_config(folder, model))
    path = folder / "adapter_model.safetensors"
    with ExitStack() as stack:
        file = stack.enter_context(safe_open(path, "pt"))
        told = (file.metadata() or {}).get("base")
        if check_base and told not in (None, base_digest(model)):
            raise ValueError(
                f"{folder} was trained on another base: load that one, or "
                "pass check_base=False if this is another form of it"
            )
        fill(made, {n: file.get_slice(n) for n in file.keys()}, path)
    return put(model, made)


@torch.no_grad()
def fill(
    made: dict[str, LoRALinear],  # changed in place
    stored: dict[str, object],  # name in the file, slice of it
    path: Path,  # of the file, for complaints
) -> None:
    "Raise `ValueError` that lists what is missing, misshapen or too much."
    own = {
        f"{_PREFIX}{theirs_of(f'{name}.lora_{letter}')}.weight": getattr(
            adapter, f"lora_{letter}"
        )
        for name, adapter in made.items()
        for letter in "AB"
    }
    faults = [
        f"{name} is {stored[name].get_shape() if name in stored else 'missing'}"
        f", not {list(own[name].shape) if name in own else 'expected'}"
        for name in sorted(own.keys() | stored.keys())
        if name not in own
        or name not in stored
        or list(own[name].shape) != stored[name].get_shape()
    ]
    if faults:
        raise ValueError(
            f"{path} and its configuration differ in {len(faults)}: "
            + "; ".join(faults[:5])
        )
    for name, tensor in own.items():
        tensor.copy_(stored[name][...])
