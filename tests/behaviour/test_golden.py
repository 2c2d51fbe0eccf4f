"""Golden vectors (tests/golden/README.md), sent through the real methods. Knows the format, none of the numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import method_batches as batches
import pytest
import torch
from golden_branches import BRANCH_CHECKS
from golden_files import CASES, FILES, FOLDER, Checker, load, stem_of
from golden_games import GAME_CHECKS
from golden_levels import LEVEL_CHECKS
from golden_psft import PSFT_CHECKS
from golden_rollouts import ROLLOUT_CHECKS
from golden_rounds import ROUND_CHECKS
from golden_soup import SOUP_CHECKS
from torch import Tensor

from align.functional.logprobs import TokenStatistics, logps, statistics
from align.functional.masked import last_kept, masked_mean, masked_sum
from align.methods.base import find_method, method_names
from align.scoring.packing import pack_best_fit

RENAMED = {"lambda": "lam", "center_rewards_coefficient": "center_coef"}
PAIR_METHODS: dict[str, tuple[str, dict[str, str]]] = {
    "sigmoid": ("dpo", {}),
    "reference_free": ("dpo", {}),
    "cdpo": ("cdpo", {}),
    "robust": ("robust", {}),
    "ipo_sum": ("ipo", {"aggregation": "sum"}),
    "ipo_mean": ("ipo", {"aggregation": "mean"}),
    "hinge": ("hinge", {}),
    "simpo": ("simpo", {}),
    "orpo": ("orpo", {}),
}
PAIR_FILES = ("tgdpo",)  # all of whose cases are the method of that name
BRADLEY_TERRY = ("bt", "bt_margin", "bt_centered", "bt_label_smoothing", "bt_soft_labels")
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])


def knobs_of(case: dict[str, Any]) -> dict[str, float]:
    """The case's numbers by our names; a text is the name of an input that is used."""
    numbers = {k: v for k, v in case["hyperparameters"].items() if not isinstance(v, str) and v is not None}
    return {RENAMED.get(k, k): float(v) for k, v in numbers.items()}


def check_pairs(stem: str, name: str, dtype: torch.dtype) -> None:
    case, inputs, check = load(stem, name, dtype)
    method_name, fixed = (stem, {}) if stem in PAIR_FILES else PAIR_METHODS[stem_of(name)]
    method = find_method(method_name)(**fixed, **knobs_of(case))
    tensors: batches.Tensors = {}
    for member in ("chosen", "rejected"):
        reference = inputs[f"ref_{member}_logps"]
        tensors[f"{member}.mask"] = inputs[f"{member}_mask"] > 0.5
        tensors[f"{member}.logps"] = inputs[f"policy_{member}_logps"].requires_grad_()
        tensors[f"{member}.ref_logps"] = torch.zeros_like(reference) if stem_of(name) == "reference_free" else reference
        if (guide := inputs.get(f"reward_{member}_logps")) is not None:
            tensors[f"{member}.guide_logps"] = guide
    loss = method.loss(method.prepare(batches.build(method.needs(), tensors)))
    total = batches.objective(loss)
    total.backward()
    check.equal("loss", total)
    terms = [term for term in loss.terms.values() if term.weight]
    check.equal("per_sequence_loss", torch.stack([term.weight * term.values for term in terms]).sum(0))
    for member in ("chosen", "rejected"):
        check.gradient(f"grad_policy_{member}_logps", tensors[f"{member}.logps"], tensors[f"{member}.mask"])
        if f"{member}_rewards" in check.left:
            check.equal(f"{member}_rewards", loss.terms[f"{member}_rewards"].values)
        if f"f_{member}" in check.left:  # the weights of tokens, which are what their gradients differ by
            grad, mask = tensors[f"{member}.logps"].grad, tensors[f"{member}.mask"]
            assert grad is not None
            sign = -1 if member == "chosen" else 1
            share = sign * (1 - (-loss.terms["loss"].values.detach()).exp()) * method.beta / len(grad)
            check.equal(f"f_{member}", (grad / share[:, None]).masked_fill(~mask, 0.0))
    check.done()


def check_bradley_terry(stem: str, name: str, dtype: torch.dtype) -> None:
    case, inputs, check = load(stem, name, dtype)
    given = case["hyperparameters"]
    chosen, rejected = inputs["reward_chosen"].requires_grad_(), inputs["reward_rejected"].requires_grad_()
    kept = torch.ones(len(chosen), 1, dtype=torch.bool)
    method = find_method("reward_model")(**knobs_of(case))
    tensors = {
        "chosen.mask": kept,
        "rejected.mask": kept,
        "chosen.scores": chosen,
        "rejected.scores": rejected,
        "margins": inputs["margin"] if "margin" in given else torch.zeros_like(chosen).detach(),
        "soft_labels": inputs["soft_label"] if "soft_label" in given else torch.ones_like(chosen).detach(),
    }
    total = batches.objective(method.loss(method.prepare(batches.build(method.needs(), tensors))))
    total.backward()
    check.equal("loss", total)
    check.gradient("grad_chosen", chosen, kept[:, 0])
    check.gradient("grad_rejected", rejected, kept[:, 0])
    check.done()


def check_pooling(stem: str, name: str, dtype: torch.dtype) -> None:
    _, inputs, check = load(stem, name, dtype)
    index = last_kept(inputs["attention_mask"] > 0)
    check.exactly("index", index.tolist())
    check.equal("reward", inputs["token_values"].gather(1, index[:, None]).squeeze(1))
    check.done()


def check_logits(stem: str, name: str, dtype: torch.dtype) -> None:
    _, inputs, check = load(stem, name, dtype)
    logits, targets, mask = inputs["logits"][:, :-1], inputs["input_ids"][:, 1:], inputs["completion_mask"][:, 1:] > 0.5
    found = logps(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1)).view(targets.shape)
    check.equal("token_logps", found)
    check.exactly("shifted_mask", mask.int().tolist())
    check.equal("sum_logps", masked_sum(found, mask))
    check.equal("mean_logps", masked_mean(found, mask))
    check.done()


def check_sft(stem: str, name: str, dtype: torch.dtype) -> None:
    content = FILES[stem]
    inputs = content["inputs"]
    check = Checker(content, content["outputs"], dtype)
    mask = torch.tensor(inputs["labels"])[:, 1:] != -100
    check.exactly("mask_shifted", mask.int().tolist())
    check.exactly("num_loss_tokens", int(mask.sum()))
    sft = {how: find_method("sft")(aggregation=how) for how in ("token_mean", "sequence_mean", "sequence_sum")}
    tokens, logits = score(inputs, dtype)
    check.equal("token_nll_shifted", -tokens.logps.masked_fill(~mask, 0.0))
    loss = demonstrate(sft["token_mean"], tokens, mask)
    check.equal("token_entropy_mean", batches.mean_of(loss, "entropy"))
    check.equal("token_accuracy", batches.mean_of(loss, "token_accuracy"))
    for how, value in (("sequence_mean", "loss_mean_of_sequence_means"), ("sequence_sum", "loss_sequence_sums_mean")):
        check.equal(value, batches.objective(demonstrate(sft[how], tokens, mask)))
    check_micro_batches(check, [torch.tensor(rows) for rows in inputs["micro_batches"]], tokens, mask)
    kept = torch.cat([mask, torch.zeros_like(mask[:, :1])], dim=1)
    for method, value, gradient in (
        (sft["token_mean"], "loss_global_token_mean", "grad_logits_global_token_mean"),
        (find_method("dft")(), "dft_loss_global_token_mean", "dft_grad_logits"),
    ):
        tokens, logits = score(inputs, dtype)
        total = batches.objective(demonstrate(method, tokens, mask))
        total.backward()
        check.equal(value, total)
        check.gradient(gradient, logits, kept)
    check_packing(check, inputs["pack_lengths"], inputs["pack_seq_length"])
    check.done()


def score(inputs: dict[str, Any], dtype: torch.dtype) -> tuple[TokenStatistics, Tensor]:
    """Columns (B, T - 1) of the shifted tokens, and the logits that they hang on."""
    logits = torch.tensor(inputs["logits"], dtype=dtype, requires_grad=True)
    targets = torch.tensor(inputs["input_ids"])[:, 1:]
    flat = statistics(logits[:, :-1].reshape(-1, logits.shape[-1]), targets.reshape(-1))
    return TokenStatistics(*(column.view(targets.shape) for column in flat)), logits


def demonstrate(method: Any, tokens: TokenStatistics, mask: Tensor) -> Any:
    columns = {f"completion.{name}": column for name, column in tokens._asdict().items()}
    return method.loss(batches.build(method.needs(), {"completion.mask": mask, **columns}))


def check_micro_batches(check: Checker, rows: list[Tensor], tokens: TokenStatistics, mask: Tensor) -> None:
    method = find_method("sft")()
    parts = [demonstrate(method, TokenStatistics(*(c[r] for c in tokens)), mask[r]) for r in rows]
    totals, counts, _ = zip(*(batches.sums(part)["loss"] for part in parts), strict=True)
    right = torch.stack(totals).sum() / sum(counts)
    check.equal("micro_batch_token_means", torch.stack([t / c for t, c in zip(totals, counts, strict=True)]))
    check.equal("right_from_micro_batches", right)
    wrong = check.tensor("wrong_mean_of_micro_means")
    assert len(set(counts)) == 1 or not torch.isclose(right.double(), wrong, rtol=1e-6), "a mean of means"
    check.left.discard("wrong_mean_of_micro_means")


def check_packing(check: Checker, lengths: list[int], capacity: int) -> None:
    rows = pack_best_fit(lengths, capacity)
    used = [[min(lengths[document], capacity) for document in row] for row in rows]
    check.exactly("pack_rows_document_ids", rows)
    check.exactly("pack_rows_used", [sum(row) for row in used])
    check.exactly("pack_rows_position_ids", [[p for length in row for p in range(length)] for row in used])


RUNNERS: dict[tuple[str, str], Callable[[str, str, torch.dtype], None]] = {
    ("sft", ""): check_sft,
    ("dpo", "logits_to_logps"): check_logits,
    ("reward-modeling", "last_token_pooling"): check_pooling,
    **{("dpo", name): check_pairs for name in PAIR_METHODS},
    **{(stem, stem_of(name)): check_pairs for stem, name in CASES if stem in PAIR_FILES},
    **{("reward-modeling", name): check_bradley_terry for name in BRADLEY_TERRY},
    **ROLLOUT_CHECKS,
    **SOUP_CHECKS,
    **BRANCH_CHECKS,
    **GAME_CHECKS,
    **LEVEL_CHECKS,
    **PSFT_CHECKS,
    **ROUND_CHECKS,
}
RUN = [case for case in CASES if (case[0], stem_of(case[1])) in RUNNERS]
LISTED = [case for case in CASES if case not in RUN]


@DTYPES
@pytest.mark.parametrize(("stem", "name"), RUN, ids=[f"{s}-{n}" if n else s for s, n in RUN])
def test_case(stem: str, name: str, dtype: torch.dtype) -> None:
    RUNNERS[stem, stem_of(name)](stem, name, dtype)


def test_the_folder_holds_vectors_that_are_run() -> None:
    assert RUN, f"no case of {FOLDER} belongs to a method of this package"


def test_cases_without_a_method_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    built = {name.replace("_", "-") for name in method_names()}
    forgotten = [case for case in LISTED if {stem_of(case[1]), case[0] if not case[1] else ""} & built]
    assert not forgotten, f"the method exists, so its vectors must be run: {forgotten}"
    if LISTED:
        by_file = {stem: [name or "whole file" for s, name in LISTED if s == stem] for stem, _ in LISTED}
        with capsys.disabled():
            print(f"\ngolden vectors of {FOLDER.name}: {len(RUN)} cases run, {len(LISTED)} wait for their method:")
            for stem, names in by_file.items():
                print(f"  {stem}: {', '.join(names)}")
