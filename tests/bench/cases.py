"""What is measured: shapes, models, and the tokens that both sides get.

A case's tokens are numbers first. The other side reads text, so each number is written as a word, and a tokenizer of
one word per token gives the numbers back; both sides report what they got, and `run` compares.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

REPOSITORY = Path(__file__).parents[2]
HH = REPOSITORY / "tests" / "data" / "hh_harmless" / "train.jsonl"
TOKENIZER = REPOSITORY / "tests" / "data" / "tokenizer-minimind6400"
PAD, EOS, FIRST = 0, 1, 2  # FIRST: the first token that is a word
MAX_LENGTH = 512  # of a row of real text

Kind = Literal["dpo", "sft", "reward", "grpo", "generate"]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A Llama from its config."""

    vocab_size: int
    hidden_size: int = 256
    num_layers: int = 4
    num_heads: int = 4
    num_kv_heads: int = 4
    intermediate_size: int = 688

    def config(self) -> dict[str, Any]:
        return {
            "model_type": "llama", "vocab_size": self.vocab_size, "hidden_size": self.hidden_size,
            "num_hidden_layers": self.num_layers, "num_attention_heads": self.num_heads,
            "num_key_value_heads": self.num_kv_heads, "intermediate_size": self.intermediate_size,
            "max_position_embeddings": 2048, "tie_word_embeddings": False,
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Case:
    """One optimiser step. Lengths of 0 mean real text, of its own lengths."""

    name: str
    kind: Kind
    what: str  # for the table
    shape: Shape
    batch_size: int = 8  # pairs, demonstrations or prompts
    prompt: int = 0
    completion: int = 0
    group_size: int = 0  # completions of a prompt, where the policy writes them
    beta: float = 0.0  # of the KL to the reference, where the policy writes
    num_steps: int = 7  # timed of each side, at most
    cached: bool = False  # the reference's log-probabilities are computed before training, on both sides
    target: float = 0.0  # TRL tuned / ours that is promised, 0 where nothing is
    target_memory: float = 0.0

    @property
    def online(self) -> bool:
        """Whether the policy writes the completions."""
        return self.group_size > 0

    @property
    def num_written(self) -> int:
        """Tokens that the policy writes in a step."""
        return self.batch_size * self.group_size * self.completion


@dataclass(frozen=True)
class Row:
    """Token numbers of a prompt and its completions (two for a pair). Those of data sets end with EOS."""

    prompt: list[int]
    completions: list[list[int]]


SMALL, WIDE = Shape(vocab_size=6400), Shape(vocab_size=32000)


def _dpo(prompt: int, completion: int, target: float, *, cached: bool = False) -> Case:
    what = f"8 pairs, prompt {prompt}, completions {completion}" + (", reference cached" if cached else "")
    name = f"dpo_{prompt}_{completion}" + ("_cached" if cached else "")
    lengths = {"prompt": prompt, "completion": completion}
    return Case(name=name, kind="dpo", what=what, shape=SMALL, cached=cached, target=target, **lengths)


def _online(kind: Kind, prompt: int, completion: int, target: float) -> Case:
    what = f"8 prompts of {prompt} tokens, 8 completions of {completion} each"
    what += ", written only" if kind == "generate" else ", one optimiser step"
    return Case(
        name=f"{kind}_{prompt}_{completion}_g8", kind=kind, what=what, shape=SMALL, prompt=prompt,
        completion=completion, group_size=8, beta=0.04, target=target,
    )  # fmt: skip


CASES = (
    _dpo(512, 64, 4.1),
    _dpo(512, 64, 4.1, cached=True),
    _dpo(256, 128, 2.9),
    _dpo(128, 256, 2.0),
    Case(
        name="dpo_256_128_v32k",
        kind="dpo",
        what="8 pairs, prompt 256, completions 128, vocabulary 32 000",
        shape=WIDE,
        prompt=256,
        completion=128,
        num_steps=3,  # for its memory; a step takes half a minute
        target_memory=5.0,
    ),
    Case(
        name="reward_256_128",
        kind="reward",
        what="8 pairs, prompt 256, completions 128, Bradley-Terry",
        shape=SMALL,
        prompt=256,
        completion=128,
    ),
    Case(
        name="sft_prompt_completion",
        kind="sft",
        what="16 dialogues of hh_harmless, loss on the last answer",
        shape=SMALL,
        batch_size=16,
        target=2.6,
    ),
    Case(
        name="sft_text",
        kind="sft",
        what="16 dialogues of hh_harmless, loss on all tokens",
        shape=SMALL,
        batch_size=16,
        target=1.8,
    ),
    Case(
        name="sft_text_equal",
        kind="sft",
        what="16 texts of 256 tokens each, loss on all tokens",
        shape=SMALL,
        batch_size=16,
        prompt=1,
        completion=255,
    ),
    _online("generate", 64, 64, 2.2),
    _online("grpo", 256, 32, 5.4),
    _online("grpo", 64, 64, 1.8),
)


HALF = Shape(
    vocab_size=32000, hidden_size=1024, num_layers=32, num_heads=16, num_kv_heads=16, intermediate_size=2816
)  # 0.48 billion parameters
ONE_AND_A_HALF = Shape(
    vocab_size=32000, hidden_size=2048, num_layers=27, num_heads=16, num_kv_heads=16, intermediate_size=5632
)  # 1.52 billion
GPU_CASES = tuple(
    Case(
        name=f"gpu_{size}_dpo_{prompt}_{completion}",
        kind="dpo",
        what=f"{size}, 16 pairs, prompt {prompt}, completions {completion}",
        shape=shape,
        batch_size=16,
        prompt=prompt,
        completion=completion,
    )
    for size, shape in (("0.5b", HALF), ("1.5b", ONE_AND_A_HALF))
    for prompt, completion in ((512, 64), (256, 128), (128, 256))
)


def find_case(name: str) -> Case:
    return next(case for case in (*CASES, *GPU_CASES) if case.name == name)


def rows_of(case: Case) -> list[Row]:
    """The rows of the case's one batch, the same in every process."""
    if not case.completion:
        return _dialogues(case)
    draw = np.random.default_rng(17)

    def tokens(count: int) -> list[int]:
        return draw.integers(FIRST, case.shape.vocab_size, count).tolist()

    if case.online:
        several = range(case.group_size)
        return [Row(tokens(case.prompt), [tokens(case.completion) for _ in several]) for _ in range(case.batch_size)]
    answers = 1 if case.kind == "sft" else 2
    return [
        Row(tokens(case.prompt), [[*tokens(case.completion - 1), EOS] for _ in range(answers)])
        for _ in range(case.batch_size)
    ]


def _dialogues(case: Case) -> list[Row]:
    """Every hundredth dialogue that fits; of `sft_text` all but the first token is learnt."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    rows: list[Row] = []
    for number, line in enumerate(HH.read_text(encoding="utf-8").splitlines()):
        if number % 100 or len(rows) == case.batch_size:
            continue
        given = json.loads(line)
        prompt = "".join(f"{m['role']}: {m['content']}\n" for m in given["messages"]) + "assistant: "
        ids = [tokenizer(part, add_special_tokens=False)["input_ids"] for part in (prompt, given["chosen"])]
        before, after = ([max(i, FIRST) for i in part] for part in ids)
        whole = [*before, *after, EOS][-MAX_LENGTH:]
        cut = 1 if case.name.startswith("sft_text") else len(whole) - len(after) - 1
        rows.append(Row(whole[:cut], [whole[cut:]]))
    return rows


def earned(completion_ids: Sequence[Sequence[int]], **rest: Any) -> list[float | None]:
    """The reward function of both sides, where the policy writes: the share of even token numbers."""
    return [sum(i % 2 == 0 for i in ids) / len(ids) for ids in completion_ids]


def words(ids: list[int]) -> str:
    """Token numbers as text that the tokenizer of `write_tokenizer` reads back as these numbers."""
    return " ".join("</s>" if i == EOS else f"t{i}" for i in ids)


def write_tokenizer(folder: Path, vocab_size: int) -> None:
    """One word per token: `<pad>`, `</s>`, t2, t3, ..."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {"<pad>": PAD, "</s>": EOS, **{f"t{i}": i for i in range(FIRST, vocab_size)}}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token="</s>").save_pretrained(folder)


def write_model(folder: Path, case: Case) -> None:
    """Fresh weights from a seed, saved once: both sides load them. A scalar head for reward models."""
    import torch
    from transformers import AutoConfig, LlamaForCausalLM, LlamaForSequenceClassification

    torch.manual_seed(7)
    extra: dict[str, Any] = {"num_labels": 1} if case.kind == "reward" else {}
    config = AutoConfig.for_model(**case.shape.config(), pad_token_id=PAD, bos_token_id=None, eos_token_id=EOS, **extra)
    kind = LlamaForSequenceClassification if case.kind == "reward" else LlamaForCausalLM
    kind(config).save_pretrained(folder)
    write_tokenizer(folder, case.shape.vocab_size)


def write_moved(folder: Path, case: Case, seed: int = 5, by: float = 0.02) -> None:
    """The same model with noise on every weight."""
    import torch
    from transformers import LlamaForCausalLM

    write_model(folder, case)
    model = LlamaForCausalLM.from_pretrained(folder)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(by * torch.randn(parameter.shape, generator=draw))
    model.save_pretrained(folder)
