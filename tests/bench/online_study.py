"""What the methods whose policy writes earn, each from three seeds, and how far they go for it.

    make study-online    (python -m tests.bench.online_study [--folder FOLDER] [--jobs N] [--only WORLD] [--missing])

Stories: the recipes `ppo`, `rloo` and `grpo` as they are. A tiny model goes on from openings that it was not trained
on, and earns the share of ten happy words that it writes within 48 tokens. Addition: the recipe `addition`, every
method; the policy has been taught to forget seven carries of ten, and earns 1 for a right sum.

Before and after are the likeliest completions of the test prompts, which no choice of knobs has seen; the divergence is
that of the samples of the last five experiences, in nats a completion. A run that has ended is kept in FOLDER, so a
study that was cut goes on; the summary is written beside this file, and the tables to STUDIES.md and README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.bench import credit_tables, eval_study, psft_study
from tests.bench.cases import REPOSITORY
from tests.bench.cells import align_train, every

SEEDS = (0, 1, 2)
STORIES = ("ppo", "rloo", "grpo")
SUMMARY = Path(__file__).parent / "online_study.json"
CREDIT = Path(__file__).parent / "credit_study.json"
LAST = 5  # experiences that the divergence is averaged over
MARKS = ("<!-- results: made by `make study-online` -->\n", "<!-- end of results -->\n")
SEVERAL = ("rollout.num_prompts=128", "rollout.num_iterations=2")  # four steps of each experience
OF_METHOD = {
    **dict.fromkeys(("sppo", "accelerated_po"), ("rollout.num_prompts=640", "rollout.num_iterations=2")),  # six rounds
    **dict.fromkeys(("ppo", "loop", "spo", "apa", "rebel", "p3o"), SEVERAL),
    "vc_ppo": (*SEVERAL, "model.critic={learning_rate: 1e-3, warmup_steps: 8}"),
    "t_ppo": ("rollout.window=3", "rollout.num_iterations=2", "model.critic={learning_rate: 1e-3, warmup_steps: 8}"),
    "vineppo": (*SEVERAL, "rollout.steps=align.lab.addition:steps"),
    "d3s": ("method.horizon=40",),
    "remax": ("rollout.num_generations=1", "optim.learning_rate=1e-3"),
}
TITLES = {
    "stories": "Share of ten happy words in 48 tokens of a story, 80 held-out openings",
    "addition": "Share of right sums, 256 held-out problems, from a policy that forgets to carry",
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Methods whose policy writes, three seeds each.")
    parser.add_argument("--folder", type=Path, default=REPOSITORY / "runs" / "study_online")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes of one thread each")
    parser.add_argument("--only", choices=TITLES, help="one world; the other's figures stay")
    parser.add_argument("--missing", action="store_true", help="only cells that the summary does not have yet")
    given = parser.parse_args()
    there = [(c["world"], c["method"], c["seed"]) for c in read()] if given.missing else []
    cells = [c for c in all_cells() if given.only in (None, c[0]) and c not in there]
    found = every(run, [(*c, given.folder.absolute()) for c in cells], given.jobs)
    kept = [c for c in read() if (c["world"], c["method"], c["seed"]) not in cells]
    made = sorted(kept + found, key=lambda c: all_cells().index((c["world"], c["method"], c["seed"])))
    SUMMARY.write_text("[\n " + ",\n ".join(json.dumps(cell) for cell in made) + "\n]\n")
    write_tables(made)


def all_cells() -> list[tuple[str, str, int]]:
    """World, method, seed."""
    from align.methods.base import OnlineMethod, find_method, method_names

    online = [name for name in method_names() if issubclass(find_method(name), OnlineMethod) and not apart(name)]
    return [(world, method, seed) for world, methods in (("stories", STORIES), ("addition", online))
            for method in methods for seed in SEEDS]  # fmt: skip


def apart(name: str) -> bool:
    """Whether it needs what the recipe of the addition lacks: hints, a further model that a recipe must name, or a game
    instead of what an answer earns."""
    from align.methods.base import find_method
    from align.needs import copies_of
    from align.scoring.role_table import named_by

    method = find_method(name)()
    plays = getattr(method, "plays", False)
    return hinted(name) or plays or bool(set(named_by(method.needs())) - set(copies_of(method)))


def hinted(name: str) -> bool:
    """Whether it wants hints, which nobody can give in a language of digits."""
    from align.methods.base import find_method

    return "num_hints" in find_method(name).needs().rows


def run(world: str, method: str, seed: int, folder: Path) -> dict[str, Any]:
    place = folder / f"{world}-{method}-{seed}"
    words = [method] if world == "stories" else ["addition", f"method.name={method}", *OF_METHOD.get(method, ())]
    align_train(*words, f"training.seed={seed}", "training.eval_steps=0", f"training.output_dir={place}")
    test = json.loads((place / "test.json").read_text(encoding="utf-8"))
    rows = [json.loads(line) for line in (place / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    kl = [row["kl"] for row in rows if "kl" in row][-LAST:]
    return {
        "world": world, "method": method, "seed": seed, "before": test["before"]["reward"]["value"],
        "after": test["reward"]["value"], "stderr": test["reward"]["stderr"], "num_prompts": test["reward"]["n"],
        "kl": statistics.fmean(kl) if kl else None, "steps": rows[-1]["step"],
    }  # fmt: skip


def read() -> list[dict[str, Any]]:
    return json.loads(SUMMARY.read_text(encoding="utf-8")) if SUMMARY.exists() else []


def table(cells: Sequence[dict[str, Any]], world: str) -> str:
    """A line for each method: means over the seeds with their standard errors."""
    lines = ["| method | before | after | KL | steps | seeds |", "|---|---|---|---|---|---|"]
    for method in dict.fromkeys(c["method"] for c in cells if c["world"] == world):
        mine = [c for c in cells if (c["world"], c["method"]) == (world, method)]
        kl = [c["kl"] for c in mine if c["kl"] is not None]
        lines.append(
            f"| `{method}` | {mine[0]['before']:.3f} | {spread([c['after'] for c in mine])} "
            f"| {spread(kl, 1) if kl else '-'} | {mine[0]['steps']} | {len(mine)} |"
        )
    return f"{TITLES[world]}:\n\n" + "\n".join(lines) + "\n"


def spread(values: Sequence[float], digits: int = 3) -> str:
    mean = f"{statistics.fmean(values):.{digits}f}"
    if len(values) < 2:
        return mean
    return f"{mean} ± {statistics.stdev(values) / len(values) ** 0.5:.{digits}f}"


def credit_part() -> str:
    """What `make study-credit` has found so far."""
    found = credit_tables.section(json.loads(CREDIT.read_text(encoding="utf-8")) if CREDIT.exists() else [])
    head = (
        "\n## Credit\n\nMade by `make study-credit` (`--only STUDY`, `--minutes M`): seeds 0, 1 and 2, a core each, as "
        "small as\nthe claims can be looked for: models of 83 thousand weights for sums, 260 thousand for stories. A "
        "claim held where\nit was two standard errors ahead, paired by seed. The settings are in "
        "`tests/bench/credit_study.py`.\n"
    )
    return f"{head}\n{found}" if found else ""


def write_tables(cells: Sequence[dict[str, Any]]) -> None:
    head = (
        "# Studies\n\nMade by `make study-online`; means of the seeds, with the standard error of the mean. KL is in\n"
    )
    head += "nats a completion, of the last five experiences' samples, from the model that training starts from.\n"
    worlds = "".join(f"\n## {world.capitalize()}\n\n{table(cells, world)}" for world in TITLES)
    parts = credit_part() + psft_study.section() + eval_study.section()
    (REPOSITORY / "STUDIES.md").write_text(head + worlds + parts, encoding="utf-8")
    readme = REPOSITORY / "README.md"
    before, _, rest = readme.read_text(encoding="utf-8").partition(MARKS[0])
    readme.write_text(before + MARKS[0] + table(cells, "stories") + MARKS[1] + rest.partition(MARKS[1])[2], "utf-8")


if __name__ == "__main__":
    main()
