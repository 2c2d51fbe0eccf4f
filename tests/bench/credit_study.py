"""What the literature claims of credit assignment, looked for in worlds that fit on one core.

    make study-credit    (python -m tests.bench.credit_study [--folder FOLDER] [--jobs N] [--only STUDY] [--minutes M])

credit  Sums of four digits, column by column, judged as a whole, from a policy that forgets seven carries of ten.
        PPO, VC-PPO, RLOO, GRPO and VinePPO; of those that value states, the values are audited. The claims of
        arXiv:2410.01679: VinePPO reaches PPO's accuracy in fewer steps and, with more writing, less time; its values
        are nearer to the truth than a critic's, which orders steps hardly better than chance.
shift   Sums of two digits, with a constant added to all rewards of a problem, another one for each. The claim of
        arXiv:2310.00212: P3O does not notice, PPO does.
drift   Stories, rewarded for happy words. The claim of arXiv:2306.02231: APA's divergence from where it began is
        better controlled than PPO's.
window  Longer stories. The claim of arXiv:2506.15050: T-PPO, which learns from a third of every completion at a time,
        reaches PPO's reward with less writing.

A cell is a run of some minutes on one thread. One that has ended is kept in FOLDER and in the summary beside this file,
where it is not made again; `--minutes` begins no further cell after so long. The tables go to STUDIES.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from concurrent.futures import as_completed
from pathlib import Path
from typing import Any

from tests.bench.cases import REPOSITORY
from tests.bench.cells import align_train, pool
from tests.bench.online_study import read as read_online
from tests.bench.online_study import write_tables

SEEDS = (0, 1, 2)
SUMMARY = Path(__file__).parent / "credit_study.json"
DIGITS = 4
CRITIC = "model.critic={learning_rate: 1e-3, warmup_steps: 4}"
WARM = "model.critic={learning_rate: 1e-3, warmup_steps: 40, warmup_flat: 0.05}"
AUDIT = (
    "rollout.steps=align.lab.addition:steps",
    "rollout.audit={num_states: 48, num_samples: 64, every: 10}",
)
TWICE = ("rollout.num_iterations=2", "training.max_steps=120", "training.eval_steps=4")
ONCE = ("training.max_steps=60", "training.eval_steps=2")
SUMS = ("training.num_train_epochs=null", "training.batch_size=64", "training.load_best_model_at_end=false")
STORY = (
    *("data.train=asset:story_openings/train.jsonl", "data.test=asset:story_openings/test.jsonl"),
    *("training.num_train_epochs=null", "training.load_best_model_at_end=false", "training.batch_size=16"),
    *("model.critic={learning_rate: 1e-3, warmup_steps: 4}", "optim.learning_rate=1e-4"),
)
LONG = (*STORY, "rollout.max_completion_length=96", "rollout.num_generations=4", "rollout.num_iterations=2")
SHIFTED = 'reward.functions=["align.lab.addition:reward", {name: "tests.bench.credit_study:of_problem", weight: 16.0}]'
VARIANTS: dict[str, dict[str, tuple[str, ...]]] = {  # study -> variant -> words of its command
    "credit": {
        "ppo": ("method={name: ppo, kl_coef: 0.0, lam: 1.0, value_coef: 0.5}", CRITIC, *TWICE, *AUDIT),
        "vc_ppo": ("method.name=vc_ppo", WARM, *TWICE, *AUDIT),
        "rloo": ("method={name: rloo, kl_coef: 0.0}", *ONCE),
        "grpo": ("method={name: grpo, kl_coef: 0.0}", *TWICE),
        "vineppo": ("method={name: vineppo, kl_coef: 0.0}", *TWICE, *AUDIT),
    },
    "shift": {
        "p3o": ("method={name: p3o, kl_coef: 0.0}", *TWICE),
        "p3o shifted": ("method={name: p3o, kl_coef: 0.0}", *TWICE, SHIFTED),
        "ppo": ("method={name: ppo, kl_coef: 0.0}", CRITIC, *TWICE),
        "ppo shifted": ("method={name: ppo, kl_coef: 0.0}", CRITIC, *TWICE, SHIFTED),
    },
    "drift": {
        "apa": (*STORY, "training.max_steps=80", "training.eval_steps=8"),
        "ppo": (*STORY, "method.kl_coef=0.05", "training.max_steps=80", "training.eval_steps=8"),
    },
    "window": {
        "t_ppo": (*LONG, "rollout.window=32", "training.max_steps=120", "training.eval_steps=6"),
        "vc_ppo": (*LONG, "rollout.num_prompts=16", "training.max_steps=40", "training.eval_steps=2"),
    },
}
Cell = tuple[str, str, int]  # study, variant, seed


def of_problem(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    """A reward that only the problem decides: a whole number from 0 to 7, so that sums and differences are exact."""
    return [float(hashlib.sha256(prompt.encode()).digest()[0] % 8) for prompt in prompts]


def main() -> None:
    parser = argparse.ArgumentParser(description="Claims about credit assignment, three seeds each.")
    parser.add_argument("--folder", type=Path, default=REPOSITORY / "runs" / "study_credit")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes of one thread each")
    parser.add_argument("--only", choices=VARIANTS, help="one study")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="no further cell is begun after so long")
    given = parser.parse_args()
    folder = given.folder.absolute()
    done = {key(c) for c in read()}
    cells = [c for c in all_cells() if c not in done and given.only in (None, c[0])]
    if any(study == "credit" for study, _, _ in cells):
        make_world(folder / "world")
    end = time.monotonic() + 60 * given.minutes
    with pool(given.jobs) as workers:
        begun = [workers.submit(run, *cell, folder, end) for cell in cells]
        for future in as_completed(begun):
            if (found := future.result()) is not None:
                add(found)


def all_cells() -> list[Cell]:
    return [(study, variant, seed) for study, of in VARIANTS.items() for seed in SEEDS for variant in of]


def key(cell: dict[str, Any]) -> Cell:
    return cell["study"], cell["variant"], cell["seed"]


def read() -> list[dict[str, Any]]:
    return json.loads(SUMMARY.read_text(encoding="utf-8")) if SUMMARY.exists() else []


def add(cell: dict[str, Any]) -> None:
    """Into the summary and the tables, at once: what is cut later has lost nothing."""
    cells = [c for c in read() if key(c) != key(cell)] + [cell]
    cells.sort(key=lambda c: all_cells().index(key(c)))
    SUMMARY.write_text("[\n " + ",\n ".join(json.dumps(c) for c in cells) + "\n]\n", encoding="utf-8")
    write_tables(read_online())


def make_world(folder: Path) -> None:
    """Problems of four digits, and a model that has been taught to forget most carries."""
    from align.lab import addition

    if (folder / "policy" / "outcome.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    addition.main(str(folder), str(folder / "tokenizer"), str(DIGITS))
    words = [f"data.{split}={folder / split}.jsonl" for split in ("train", "test")]
    words += ["training.num_train_epochs=60", "training.eval_steps=1000", f"training.output_dir={folder / 'policy'}"]
    align_train("addition_sft", *words)


def words_of(study: str, variant: str, folder: Path) -> list[str]:
    own = list(VARIANTS[study][variant])
    if study in ("drift", "window"):
        return [variant, *own, "data.validation=asset:story_openings/test.jsonl"]
    words = ["addition", *SUMS, *own, "rollout.max_completion_length=10"]
    if study == "shift":
        return [*words, "data.validation=asset:addition/test.jsonl", "data.test=0.0"]
    world = folder / "world"
    words += [f"model.model_name_or_path={world / 'policy'}", f"data.train={world / 'train.jsonl'}"]
    return [*words, f"data.validation={world / 'test.jsonl'}", "data.test=0.0"]


def run(study: str, variant: str, seed: int, folder: Path, end: float) -> dict[str, Any] | None:
    """A cell; None where it is too late to begin it."""
    if time.monotonic() > end:
        return None
    place = folder / f"{study}-{variant.replace(' ', '_')}-{seed}"
    words = words_of(study, variant, folder)
    align_train(*words, f"training.seed={seed}", "training.save_steps=20", f"training.output_dir={place}")
    made = {"study": study, "variant": variant, "seed": seed, "points": points(place), "audits": audits(place)}
    made["weights"] = hashlib.sha256((place / "final" / "model.safetensors").read_bytes()).hexdigest()[:16]
    return made


def points(place: Path) -> list[dict[str, float]]:
    """At every evaluation: what it had cost until then, and what was earned."""
    spent = dict.fromkeys(("samples", "generated", "scored", "trained", "seconds"), 0.0)
    kl, found = 0.0, list[dict[str, float]]()
    for line in (place / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        took = (row["num_tokens"] - spent["trained"]) / row["tokens_per_second"]
        spent["seconds"] += took - row.get("seconds_audit", 0.0)
        spent["trained"] = row["num_tokens"]
        if "written_tokens" in row:
            spent["generated"] += row["written_tokens"]
            spent["scored"] += row["scored_tokens"]
            spent["samples"] += row["completions"]
            kl = row.get("kl", kl)
        if "eval/reward" in row:
            earned = row.get("eval/rewards/reward", row["eval/reward"])
            found.append({"step": row["step"], **spent, "earned": earned, "kl": kl})
    return found


def audits(place: Path) -> list[dict[str, float]]:
    from align.report.folder import read_run
    from align.report.measured.values import by_step

    made: list[dict[str, float]] = []
    for step, audit in by_step(read_run(place)).items():
        order, pairs = audit.order
        made.append(
            {"step": step, "error": audit.error, "noise": audit.noise, "order": order, "pairs": pairs,
             "states": len(audit.states)}
        )  # fmt: skip
    return made


if __name__ == "__main__":
    main()
