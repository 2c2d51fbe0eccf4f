"""`align doctor`: looks at the real first batch of a recipe, before a week is spent on it.

Loads data, tokenizer and model as `align train` does, trains nothing, writes nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from align.batches import Group
from align.cli.doctor_online import rehearse
from align.cli.painted import LEGEND, painted
from align.data.text.describe import describe
from align.data.text.template import own_bos
from align.errors import RunError
from align.methods.hooks import answered
from align.models.settings import SoupSection
from align.models.tokenizer import stop_ids
from align.monitors.trackers import no_telemetry
from align.recipe.load import Recipe
from align.run.assemble import Setup, assemble
from align.run.twin import clipped
from align.runfolder.folder import RunFolder
from align.scoring.layout import RowLayout, lay_out
from align.scoring.rounding import distance, limit
from align.scoring.score import scatter
from align.sources.offline import Offline
from align.sources.online import Online
from align.training.evaluate import evaluate
from align.world.distributed import join

SHOWN = 2  # rows that are printed token by token


def examine(recipe: Recipe, console: Console) -> None:
    """Prints the findings; raises RunError naming those that must be mended."""
    no_telemetry()
    world = join(clipped(recipe).max_grad_norm, recipe.training.mixed_precision)
    with tempfile.TemporaryDirectory() as scratch:
        setup = assemble(recipe, world, RunFolder(Path(scratch)), console.print)
        try:
            with answered():
                problems = _online(setup, console) if isinstance(setup.source, Online) else _offline(setup, console)
        finally:
            setup.source.close()
    for problem in problems:
        console.print(f"PROBLEM  {problem}", style="bold red", markup=False)
    if problems:
        many = "1 finding" if len(problems) == 1 else f"{len(problems)} findings"
        raise RunError(f"{recipe.file}: {many} to mend before training")
    console.print("nothing to mend")


def _offline(setup: Setup, console: Console) -> list[str]:
    batch = min(len(setup.splits.train), setup.recipe.training.batch_size)
    groups = [setup.splits.train[i] for i in range(batch)]
    problems = _tokens(setup, groups, console)
    return problems + _layouts(setup, groups[:8], console) + _first_step(setup, groups, console)


def _online(setup: Setup, console: Console) -> list[str]:
    problems, harvest = rehearse(setup, console)
    return problems + _layouts(setup, harvest.whole.groups[:8], console)


def _tokens(setup: Setup, groups: Sequence[Group], console: Console) -> list[str]:
    """Prints some rows with their loss mask; checks beginning and end of every sequence."""
    store, tokenizer = setup.splits.train, setup.tokenizer
    console.print(f"\n{LEGEND}")
    for i in range(min(SHOWN, len(groups))):
        for member, seen in zip(setup.batching.needs.members, describe(store, tokenizer, i), strict=False):
            console.print(f"\n{store.place(i)}  {member}", markup=False)
            console.print(painted(seen, coloured=console.is_terminal))
    bos, stops = own_bos(tokenizer, tokenizer.chat_template), set(stop_ids(tokenizer, setup.model))
    doubled = ends = 0
    members = [m for g in groups for m in g.members]
    for m in members:
        ids = [*m.prompt.tolist(), *m.completion.tolist()]
        doubled += bos is not None and bos not in stops and ids.count(bos) > 1
        ends += any(int(t) in stops and kept for t, kept in zip(m.completion, m.mask, strict=True))
    console.print(f"\n{len(members)} sequences: {ends} learn to stop, {doubled} begin twice")
    problems = [f"{doubled} sequences have more than one BOS"] if doubled else []
    if not ends:
        problems.append("no sequence learns a token that stops a generation: the model will not learn to end")
    return problems


def _layouts(setup: Setup, groups: Sequence[Group], console: Console) -> list[str]:
    """The same rows in each layout, real tokens this time."""
    needs, layout, module = setup.batching.needs, setup.batching.layout, setup.trainee.module
    column = "scores" if "scores" in needs.live(needs.learned()[0]) else "logps"
    masks = [torch.from_numpy(m.mask) for g in groups for m in g.members]
    mask = torch.ones(len(masks), 1) > 0 if column == "scores" else pad_sequence(masks, batch_first=True)

    def made(groups: Sequence[Group], layout: RowLayout) -> Tensor:
        rows = lay_out([g.members for g in groups], layout).to(setup.world.device)
        with torch.no_grad():
            values = module(rows, (column,), 1)[column].float()
        return values[:, None].cpu() if column == "scores" else scatter(values, rows, (len(rows), mask.shape[1])).cpu()

    few, precision = groups[: (len(groups) + 1) // 2], setup.policy.computes_in
    places = mask[: sum(len(g.members) for g in few)]
    most = limit(module, precision, lambda: made([*few, *few], "padded").unflatten(0, (2, -1)), places)
    gap = distance(made(groups, layout), made(groups, "padded"), mask, precision)
    console.print(f"layout {layout}: {column} differ by {gap:.1e} from padded (limit {most:.1g})")
    return [f"layout {layout}: {column} differ by {gap:.2g}; set training.layout: padded"] if gap > most else []


def _first_step(setup: Setup, groups: Sequence[Group], console: Console) -> list[str]:
    """The loss and metrics before any update; where there is a reference, its distance from the policy."""
    assert isinstance(setup.source, Offline)
    found = evaluate(setup.trainee.module, setup.recipe.method, [groups], setup.batching, setup.source.roles["train"])
    for name, estimate in found.estimates.items():
        console.print(f"{name:22} {estimate.value:12.6f} ± {estimate.stderr:.6f}", highlight=False)
    rewards = [found.estimates[n].value for n in ("chosen_rewards", "rejected_rewards") if n in found.estimates]
    model = setup.recipe.model
    same = not model.ref_model_name_or_path and not isinstance(model.reference, SoupSection)
    if "ref" in setup.batching.needs.roles() and rewards and same:
        gap = max(abs(r) for r in rewards)
        console.print(f"policy and reference: mean log-ratio times beta {gap:.1e} (0: ratio 1, KL 0)")
        if gap > 1e-2:
            return [
                f"policy and reference differ before training (mean reward {gap:.3g}); they should be the same weights"
            ]
    return []
