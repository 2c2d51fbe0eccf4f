"""A run whose rewards are those of a game: whom it beats, and how far it has gone for it."""

from __future__ import annotations

from align.report.folder import Run
from align.report.headline import outcome, told
from align.report.parts.blocks import Block, Words, figures, note
from align.report.parts.charts import Chart, Series, chart
from align.report.parts.figures import Figure
from align.report.text import said

EVEN = 0.5
AWAY = {"kl": "from the reference", "target_kl": "from the target"}
EXPLAINED = (
    "In training a policy that plays against itself wins half of its games whatever it learns, so that curve says "
    "nothing. Here its greedy completions of held-out prompts stand against those of the reference, one against one. "
    "In a game that goes in circles this can fall while the policy becomes harder to beat."
)


def game_section(run: Run) -> list[Block]:
    """Nothing for a run that plays none."""
    if not run.curve("target_kl"):
        return []
    return [*_sentence(run), *figures(_drawn(run)), note(EXPLAINED)]


def _sentence(run: Run) -> list[Block]:
    won, split = outcome(run, "reward")
    if won is None:
        return []
    count = f"{won.n:,} " if won.n else ""
    sentence = "It wins <b>{}</b> of the games on {}held-out {} prompts; half is even."
    return [Words(said(sentence, told(won, "win_rate"), count, split))]


def _drawn(run: Run) -> list[Figure]:
    drawn: list[Figure] = []
    if dots := [(step, m.value, m.stderr) for step, m in run.evaluations("reward")]:
        line = Series(label="validation ± standard error", slot=0, dots=dots)
        title = "Games won against the reference"
        drawn.append(chart(Chart(title=title, series=[line], share=True, guide=(EVEN, "even"))))
    away = [(words, run.curve(key)) for key, words in AWAY.items() if run.curve(key)]
    lines = [Series(label=words, slot=i, line=line, smoothed=True) for i, (words, line) in enumerate(away)]
    return [*drawn, chart(Chart(title="KL of the policy, nats a completion", series=lines))]
