"""Golden vectors of `psft`: one step under several clips, and paths of weights over experiences of several steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import method_batches as batches
import torch
from golden_files import FILES, Checker
from torch import Tensor

from align.functional.logprobs import TokenStatistics, logps, statistics
from align.methods.base import find_method

AGGREGATIONS = {
    "token_mean": "loss_token_mean",
    "sequence_mean": "loss_seq_mean_token_mean",
    "sequence_sum": "loss_seq_mean_token_sum",
}


def columns_of(logits: Tensor, targets: Tensor) -> TokenStatistics:
    """(B, T) each; entry t is of the token that the logits at t predict."""
    flat = statistics(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1))
    return TokenStatistics(*(column.view(targets.shape) for column in flat))


def old_of(logits: Tensor, targets: Tensor) -> Tensor:
    return logps(logits.detach().reshape(-1, logits.shape[-1]), targets.reshape(-1)).view(targets.shape)


def loss_of(method: Any, tokens: TokenStatistics, old: Tensor, mask: Tensor) -> Any:
    columns = {f"completion.{name}": column for name, column in tokens._asdict().items()}
    columns = {n: c for n, c in columns.items() if n.split(".")[1] in method.needs().live("completion")}
    if "old_logps" in method.needs().stored("completion"):
        columns["completion.old_logps"] = old
    return method.loss(batches.build(method.needs(), {"completion.mask": mask, **columns}))


def check_psft(stem: str, name: str, dtype: torch.dtype) -> None:
    content = FILES[stem]
    inputs, outputs = content["inputs"], content["outputs"]
    targets, mask = torch.tensor(inputs["targets"]), torch.tensor(inputs["mask"]) > 0
    old = old_of(torch.tensor(inputs["old_logits"], dtype=dtype), targets)
    check = Checker(content, {k: v for k, v in outputs.items() if k != "by_clip"}, dtype)
    logits = torch.tensor(inputs["logits"], dtype=dtype, requires_grad=True)
    tokens = columns_of(logits, targets)
    method = find_method("psft")()
    loss = loss_of(method, tokens, old, mask)
    check.equal("logp", tokens.logps)
    check.equal("old_logp", old)
    check.equal("ratio", torch.where(mask, loss.terms["ratio"].values, (tokens.logps - old).exp()))
    check.equal("mean_entropy", batches.mean_of(loss, "entropy"))
    check.equal("k1_kl_old_minus_new", batches.mean_of(loss, "k1"))
    same = batches.objective(loss_of(method, tokens, tokens.logps.detach(), mask))
    same.backward()
    check.equal("loss_when_old_equals_new", same)
    check.gradient("grad_logits_when_old_equals_new", logits, mask)
    check.done()
    for clip, expected in outputs["by_clip"].items():
        check_clip(Checker(content, expected, dtype), clip, inputs, old)
    check_paths(content, dtype)


def check_clip(check: Checker, clip: str, inputs: dict[str, Any], old: Tensor) -> None:
    """`asym_LOW_HIGH` and `sym_BOTH`: the lower bound never acts, so that there is no knob for it."""
    targets, mask = torch.tensor(inputs["targets"]), torch.tensor(inputs["mask"]) > 0
    low, high = (float(clip.split("_")[place]) for place in (1, -1))
    for how, name in AGGREGATIONS.items():
        method = find_method("psft")(clip_high=high, aggregation=how)
        logits = torch.tensor(inputs["logits"], dtype=check.dtype, requires_grad=True)
        loss = loss_of(method, columns_of(logits, targets), old, mask)
        check.equal(name, batches.objective(loss))
        if how == "token_mean":
            batches.objective(loss).backward()
            check.gradient("grad_logits_token_mean", logits, mask)
            check.equal("token_loss", loss.terms["loss"].values.masked_fill(~mask, 0.0))
            check.equal("upper_clip_fraction", batches.mean_of(loss, "clip_fraction"))
            ratio = loss.terms["ratio"].values[mask]
            check.equal("below_lower_fraction", (ratio < 1 - low).double().mean())
    check.done()


def check_paths(content: dict[str, Any], dtype: torch.dtype) -> None:
    """Plain descent of logits = X W^T; the old policy is that before each experience, or that of the beginning."""
    given = content["trajectory"]["inputs"]
    psft = find_method("psft")(clip_high=given["clip_high"])
    kinds: dict[str, tuple[Any, bool]] = {
        "psft_refresh_each_train_batch": (psft, True),
        "psft_old_fixed_at_W0": (psft, False),
        "sft": (find_method("sft")(), True),
    }
    for name, (method, refreshed) in kinds.items():
        check = Checker(content, content["trajectory"][name], dtype)
        walk(check, method, given, refreshed=refreshed)
        check.done()


def walk(check: Checker, method: Any, given: dict[str, Any], *, refreshed: bool) -> None:
    targets, mask = torch.tensor(given["Y"]), torch.tensor(given["mask"]) > 0
    weights = torch.tensor(given["W0"], dtype=check.dtype, requires_grad=True)
    rows = torch.tensor(given["X"], dtype=check.dtype)
    logits: Callable[[], Tensor] = lambda: rows @ weights.T  # noqa: E731
    old = old_of(logits(), targets)
    path, losses, clipped = [weights.detach().clone()], [], []
    for _ in range(given["train_batches"]):
        old = old_of(logits(), targets) if refreshed else old
        for part in given["mini_batches"]:
            tokens = TokenStatistics(*(column[part] for column in columns_of(logits(), targets)))
            loss = loss_of(method, tokens, old[part], mask[part])
            total = batches.objective(loss)
            (gradient,) = torch.autograd.grad(total, weights)
            with torch.no_grad():
                weights -= given["lr"] * gradient
            path.append(weights.detach().clone())
            losses.append(batches.value(loss))
            clipped.append(batches.mean_of(loss, "clip_fraction") if "clip_fraction" in loss.terms else 0.0)
    tokens = columns_of(logits(), targets)
    check.equal("W", torch.stack(path))
    check.equal("loss", torch.tensor(losses, dtype=torch.float64))
    check.equal("upper_clip_fraction", torch.tensor(clipped, dtype=torch.float64))
    check.equal("final_mean_entropy", tokens.entropies[mask].mean())
    check.equal("final_mean_nll", -tokens.logps[mask].mean())


PSFT_CHECKS = {("psft", ""): check_psft}
