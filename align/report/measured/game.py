"""A run whose rewards are those of a game: whom it beats, and how far it has gone for it."""

from __future__ import annotations

from align.report.folder import Run
from align.report.headline import outcome, told
from align.report.svg import Chart, Series, chart

EVEN = 0.5
AWAY = {"kl": "from the reference", "target_kl": "from the target"}
EXPLAINED = (
    "In training a policy that plays against itself wins half of its games whatever it learns, so that curve says "
    "nothing. Here its greedy completions of held-out prompts stand against those of the reference, one against one. "
    "In a game that goes in circles this can fall while the policy becomes harder to beat."
)


def game_section(run: Run) -> str:
    """Nothing for a run that plays none."""
    if not run.curve("target_kl"):
        return ""
    won, split = outcome(run, "reward")
    said = ""
    if won is not None:
        count = f"{won.n:,} " if won.n else ""
        wins = f"<b>{told(won, 'win_rate')}</b> of the games on {count}held-out {split} prompts"
        said = f"<p>It wins {wins}; half is even.</p>"
    dots = [(step, m.value, m.stderr) for step, m in run.evaluations("reward")]
    drawn = ""
    if dots:
        line = Series(label="validation ± standard error", slot=0, dots=dots)
        drawn = chart(Chart(title="Games won against the reference", series=[line], share=True, guide=(EVEN, "even")))
    away = [(words, run.curve(key)) for key, words in AWAY.items() if run.curve(key)]
    lines = [Series(label=words, slot=i, line=line, smoothed=True) for i, (words, line) in enumerate(away)]
    drawn += chart(Chart(title="KL of the policy, nats a completion", series=lines))
    return f'{said}<div class="grid">{drawn}</div><p class="note">{EXPLAINED}</p>'
