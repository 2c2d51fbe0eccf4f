"""The same table on a GPU, for Llama shapes of 0.5 and 1.5 billion parameters under bfloat16 autocast.

    python -m tests.bench.gpu --peak-tflops 989 [--repetitions N] [--out FOLDER] [CASE ...]

Writes benchmarks_gpu.json and BENCHMARKS_GPU.md. MFU is the share of the GPU's peak that the step's *model* FLOPs
take: 6 N for each token of each sequence as if it stood alone (prompts counted twice, whatever a layout saves) and 2 N
for the reference's pass, N the parameters without the embedding; attention's own FLOPs are left out.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from tests.bench.cases import GPU_CASES, REPOSITORY, Case, find_case, rows_of
from tests.bench.render import rows
from tests.bench.run import SPLIT, WHOLE, Contest, Outcome, line, measure

BF16: dict[str, Any] = {"bf16": True, "gradient_checkpointing": False}
ON_GPU = Contest(
    ours={"mixed_precision": "bf16"},
    tuned={"dpo": {WHOLE: BF16, SPLIT + "4": BF16 | {"micro": 4}}},
    per_token=0.15,  # autocast rounds each side's sums in another order
    per_sequence=2.0,
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gpu", description="Step time and memory against TRL.")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(c.name for c in GPU_CASES))
    parser.add_argument(
        "--peak-tflops", type=float, required=True, help="the GPU's dense bfloat16 peak (H100, H200: 989)"
    )
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--out", type=Path, default=REPOSITORY)
    given = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("there is no GPU here")
    found: list[dict[str, Any]] = []
    for case in [find_case(name) for name in given.cases] or GPU_CASES:
        outcome = measure(case, given.repetitions, ON_GPU)
        print(line(outcome), flush=True)
        found += [row | mfu(outcome, row, given.peak_tflops) for row in rows(outcome)]
        write(found, given.out, given.peak_tflops)


def mfu(o: Outcome, row: dict[str, Any], peak_tflops: float) -> dict[str, float]:
    if row["metric"] != "step_time":
        return {}
    flops = model_flops(o.case)
    return {f"mfu_{side}": flops / row[side] / (peak_tflops * 1e12) for side in ("ours", "trl_tuned", "trl_default")}


def model_flops(case: Case) -> float:
    shape = case.shape
    block = 4 * shape.hidden_size**2 + 3 * shape.hidden_size * shape.intermediate_size
    parameters = shape.num_layers * block + shape.vocab_size * shape.hidden_size
    tokens = sum(len(row.prompt) + len(completion) for row in rows_of(case) for completion in row.completions)
    return (6 + (2 if case.kind == "dpo" and not case.cached else 0)) * parameters * tokens


def write(found: list[dict[str, Any]], folder: Path, peak_tflops: float) -> None:
    name = torch.cuda.get_device_name(0)
    made = {"hardware": name, "peak_tflops": peak_tflops, "torch": torch.__version__, "rows": found}
    (folder / "benchmarks_gpu.json").write_text(json.dumps(made, indent=1) + "\n")
    lines = [
        f"# Benchmarks on {name}\n",
        __doc__ or "",
        "| case | metric | ours | TRL tuned | TRL default | ratio | MFU ours, TRL tuned |",
    ]
    lines.append("|" + " --- |" * 7)
    for r in found:
        share = f"{r['mfu_ours']:.1%}, {r['mfu_trl_tuned']:.1%}" if "mfu_ours" in r else ""
        numbers = " | ".join(f"{r[side]:.3g}" for side in ("ours", "trl_tuned", "trl_default"))
        lines.append(f"| `{r['case']}` | {r['metric']}, {r['unit']} | {numbers} | {r['ratio']:.2f} | {share} |")
    (folder / "BENCHMARKS_GPU.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
