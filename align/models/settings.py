"""The recipe's section `model`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from align.system.ranges import AtLeastOne, ShareBelowOne


@dataclass(frozen=True, kw_only=True)
class LoraSection:
    """Low-rank adapters by peft; names are peft's."""

    r: AtLeastOne = 16  # rank of the two factors of each matrix
    lora_alpha: int = 32  # what they add is multiplied by lora_alpha / r
    lora_dropout: ShareBelowOne = 0.0  # of the adapters' input, in training
    target_modules: str | list[str] = "all-linear"  # names of modules that get adapters; all-linear: all but the head
    use_dora: bool = False  # weights are divided into length and direction (arXiv:2402.09353)
    use_rslora: bool = False  # multiplied by lora_alpha / sqrt(r) instead (arXiv:2312.03732)


@dataclass(frozen=True, kw_only=True)
class CriticSection:
    """A critic that is a model of its own, with an optimiser of its own, instead of a head on the policy's trunk."""

    model_name_or_path: str = ""  # a reward model's folder or run, any other of the vocabulary; empty: the policy's own
    learning_rate: float = 0.0  # 0: the policy's; its schedule is over all steps
    warmup_steps: int = 0  # first steps in which the critic learns alone; the policy's schedule begins after them
    # ends them earlier, once its loss and the variance that it explains get better by less than this share; 0: never
    warmup_flat: ShareBelowOne = 0.0


@dataclass(frozen=True, kw_only=True)
class SoupSection:
    """A reference whose weights are an average of several models' (SALSA, arXiv:2411.01798)."""

    soup: list[str]  # folders, runs or hub names of models with one ancestor, such as SFT with two seeds
    weights: list[float] = field(default_factory=list)  # shares, at least 0, adding up to 1; empty: equal ones


@dataclass(frozen=True, kw_only=True)
class ModelSection:
    """Which weights, in which precision, with which reference."""

    # a local folder, a hub name (NAME, NAME@REVISION), asset:NAME, an earlier run, or a checkpoint in it
    model_name_or_path: str = ""
    # instead of a model: fresh weights of this config (model_type, ...)
    config: dict[str, Any] = field(default_factory=dict)
    tokenizer_name_or_path: str = ""  # needed with `config`; empty: the model's own
    # of the weights; auto: float32, also where mixed precision computes in bf16
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    attn_implementation: str = ""  # transformers' name; empty: the layouts choose
    trust_remote_code: bool = False  # runs the Python code that the model's repository holds
    add_tokens: list[str] = field(default_factory=list)  # new special ones that rewards see; embeddings are resized
    lora: LoraSection | None = None  # low-rank adapters are trained instead of the weights; null: the weights
    load_in_4bit: bool = False  # the weights beneath an adapter, by bitsandbytes: memory, and a little exactness
    bnb_4bit_quant_type: Literal["nf4", "fp4"] = "nf4"  # the 16 values that 4 bits stand for
    bnb_4bit_use_double_quant: bool = False  # the scales of their blocks in 8 bits
    critic: CriticSection | None = None  # of methods that have one; without it a head on the policy's trunk
    # auto: copy, but adapter_off if it is new; {soup: [...], weights: [...]}: an average of several models
    reference: Literal["auto", "copy", "adapter_off", "cached"] | SoupSection = "auto"
    # weight of the load-balancing loss of a mixture of experts, which costs a further pass; null: none, and a message
    # where the model's config asks for one
    router_aux_loss_coef: float | None = None
    ref_model_name_or_path: str = ""  # another reference than the weights that training starts from
    roles: dict[str, str] = field(default_factory=dict)  # {guide: FOLDER}: further frozen models that a method reads

    def others(self) -> dict[str, str]:
        """Key of this section -> the frozen model that it names beside the policy."""
        soup = self.reference.soup if isinstance(self.reference, SoupSection) else []
        found = {f"reference.soup.{i}": name for i, name in enumerate(soup)}
        if self.ref_model_name_or_path:
            found["ref_model_name_or_path"] = self.ref_model_name_or_path
        return found | {f"roles.{role}": name for role, name in self.roles.items()}
