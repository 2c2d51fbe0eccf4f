"""The sections of the page: models, scores, judges, and two numbers against each other; the template sets them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from align.report.parts.blocks import Table
from align.report.parts.figures import Figure
from align.report.text import short
from align_eval.page.parts import HALF, Part, grouped, leads, part_of, slots_of
from align_eval.page.scatter import Cloud, Point, Scatter, scatter
from align_eval.page.strips import Forest, Strip
from align_eval.results.document import Checkpoint, Difference, Pair, Ranked, Results, Scored
from align_eval.results.families import told_family
from align_eval.results.wording import p_value, told

# ---- models ---------------------------------------------------------------------------------------------------------


def leaderboard(rows: Sequence[Ranked]) -> Part:
    strips = [Strip(name=f"{r.rank}. {r.model}", found=r.rating, slot=0 if leads(r, rows) else 7) for r in rows]
    rates = [Strip(name=f"{r.rank}. {r.model}", found=r.win_rate, slot=0 if leads(r, rows) else 7) for r in rows]
    head = ["Rank", "Model", "Rating", "Win rate", "Cannot be told from", "Mean length", "n"]
    grid = Table(
        head=head,
        rows=[
            [
                str(r.rank), r.model, told(r.rating), told(r.win_rate), ", ".join(r.tied_with) or "nobody",
                told(r.mean_length), f"{r.n:,}",
            ]
            for r in rows
        ],
    )  # fmt: skip
    best = [r.model for r in rows if leads(r, rows)]
    note = f"In colour: {'the best' if len(best) == 1 else 'all that cannot be told from the best'}."
    return part_of(
        [
            Forest(title="Rating", strips=strips),
            Forest(title="Win rate against the others", strips=rates, middle=HALF),
        ],
        note=note,
        tables=[("The leaderboard as a table", grid)],
    )


def pairs(rows: Sequence[Pair]) -> list[Part]:
    """One for each judge; one for all of them where they judged the same two models."""
    whole = [r for r in rows if not r.category]
    alone = len({frozenset((r.a, r.b)) for r in whole}) == 1
    groups = [("", whole)] if alone else grouped(whole, lambda r: r.judge)
    return [
        part_of(
            [Forest(title="Win rate of the first over the second", strips=list(_of_pairs(some, alone)), middle=HALF)],
            title=judge,
            note=_note(some) if some is groups[0][1] else "",
            tables=[("Counts, tests and what could have been found", pair_table(some))],
        )
        for judge, some in groups
    ]


def _of_pairs(rows: Sequence[Pair], with_judge: bool) -> Iterable[Strip]:
    for r in rows:
        name, who = f"{r.a} over {r.b}", r.judge if with_judge else ""
        floor = f"judged twice: {told(r.noise_floor)} apart" if r.noise_floor else ""
        yield Strip(name=name, note=_joined(who, floor), found=r.win_rate, detectable=r.detectable)
        if r.lc_win_rate:
            yield Strip(name=name, note=_joined(who, "at equal length"), found=r.lc_win_rate, slot=1)


def _joined(*words: str) -> str:
    return ", ".join(w for w in words if w)


def _note(rows: Sequence[Pair | Difference]) -> str:
    family = told_family(rows)
    return " ".join(text for text in (_blind(rows), f"P-values are {family}." if family else "") if text)


def _blind(rows: Sequence[Pair | Difference]) -> str:
    if all(r.detectable is None for r in rows):
        return ""
    return "Shaded: differences so small that this many items would mostly miss them (the minimum detectable one)."


def pair_table(rows: Sequence[Pair]) -> Table:
    tests = list(dict.fromkeys(name for r in rows for name in r.tests))
    kinds = list(dict.fromkeys(name for r in rows for name in r.adjusted))
    head = ["Pair", "Judge", "Wins", "Ties", "Losses", "Missing", "Win rate", "At equal length", "Detectable"]
    body = [
        [
            f"{r.a} over {r.b}", r.judge, short(r.wins), short(r.ties), short(r.losses), f"{r.missing:,}",
            told(r.win_rate), told(r.lc_win_rate) if r.lc_win_rate else "not made", _distance(r.detectable),
            told(r.noise_floor) if r.noise_floor else "not made", *_p_values(r, tests, kinds),
        ]
        for r in rows
    ]  # fmt: skip
    return _used(Table(head=[*head, "Noise floor", *_test_heads(tests, kinds)], rows=body))


def _test_heads(tests: Sequence[str], kinds: Sequence[str]) -> list[str]:
    return [*(f"p ({t})" for t in tests), *(f"p, adjusted ({k})" for k in kinds)]


def _p_values(row: Pair | Difference, tests: Sequence[str], kinds: Sequence[str]) -> list[str]:
    return [*(p_value(row.tests.get(t)) for t in tests), *(p_value(row.adjusted.get(k)) for k in kinds)]


def _distance(value: float | None) -> str:
    return "not made" if value is None else f"{value * 100:.1f} points"


def _used(grid: Table) -> Table:
    """Without columns that were made for no row."""
    kept = [i for i in range(len(grid.head)) if any(row[i] != "not made" for row in grid.rows)]
    return Table(head=[grid.head[i] for i in kept], rows=[[row[i] for i in kept] for row in grid.rows])


# ---- scores ---------------------------------------------------------------------------------------------------------


def scores(rows: Sequence[Scored]) -> Part:
    whole = [r for r in rows if not r.category]
    slots = slots_of(r.model for r in rows)
    return part_of(
        Forest(
            title=f"{task}: {metric}",
            strips=[Strip(name=r.model, found=r.estimate, slot=slots[r.model]) for r in some],
            bars=True,
        )
        for (task, metric), some in grouped(whole, lambda r: (r.task, r.metric))
    )


def differences(rows: Sequence[Difference]) -> Part:
    tests = list(dict.fromkeys(name for r in rows for name in r.tests))
    kinds = list(dict.fromkeys(name for r in rows for name in r.adjusted))
    specs = [
        Forest(
            title=f"{task}: {metric}, first minus second",
            strips=[
                Strip(name=f"{r.a} minus {r.b}", note=r.category, found=r.difference, detectable=r.detectable)
                for r in some
            ],
            middle=0.0,
            signed=True,
        )
        for (task, metric), some in grouped(rows, lambda r: (r.task, r.metric))
    ]
    body = [
        [f"{r.task}: {r.metric}", r.category or "all", f"{r.a} minus {r.b}", told(r.difference, signed=True),
         "not made" if r.detectable is None else short(r.detectable), *_p_values(r, tests, kinds)]
        for r in rows
    ]  # fmt: skip
    head = ["Task", "Category", "Models", "Difference", "Detectable", *_test_heads(tests, kinds)]
    tables = [("Tests and what could have been found", _used(Table(head=head, rows=body)))] if rows else []
    return part_of(specs, note=_note(rows) if rows else "", tables=tables)


def categories(found: Results) -> Part:
    """Win rates and scores within each category."""
    of_pairs = grouped((r for r in found.sections.pairs if r.category), lambda r: (r.judge, r.a, r.b))
    of_scores = grouped((r for r in found.sections.scores if r.category), lambda r: (r.task, r.metric))
    slots = slots_of(r.model for r in found.sections.scores)
    specs = [
        Forest(
            title=f"{a} over {b}" + (f" ({judge})" if judge else ""),
            strips=[Strip(name=r.category, found=r.win_rate, detectable=r.detectable) for r in some],
            middle=HALF,
            bars=True,
        )
        for (judge, a, b), some in of_pairs
    ]
    specs += [
        Forest(
            title=f"{task}: {metric}",
            strips=[
                Strip(name=r.category, note=r.model, found=r.estimate, slot=slots[r.model])
                for r in sorted(some, key=lambda r: r.category)
            ],
            bars=True,
        )
        for (task, metric), some in of_scores
    ]
    first, rest = part_of(specs[:4]), part_of(specs[4:])
    more = [("More pairs and tasks", rest.shown)] if rest.shown else []
    return Part(shown=first.shown, folded=[*first.folded, *more, *rest.folded])


# ---- judges ---------------------------------------------------------------------------------------------------------


def judges(found: Results) -> Part:
    rows = found.sections.judges
    kinds = (
        ("Who was shown first wins", "first_wins", HALF),
        ("The longer answer wins", "longer_wins", HALF),
        ("The same verdict in both orders", "order_agreement", None),
        ("The same verdict when asked again", "self_agreement", None),
    )
    specs = [
        Forest(
            title=title,
            strips=[
                Strip(name=r.judge, found=getattr(r, name), note=f"{r.missing:,} of {r.n:,} without a verdict")
                for r in rows
                if getattr(r, name) is not None
            ],
            middle=middle,
            whole=True,
        )
        for title, name, middle in kinds
    ]
    return part_of(specs)


def agreement(found: Results) -> Part:
    return part_of(
        Forest(
            title=kind,
            strips=[
                Strip(name=f"{r.a} and {r.b}" if r.b else r.a or "all judges", found=r.estimate)
                for r in some
            ],
        )
        for kind, some in grouped(found.sections.agreement, lambda r: r.kind)
    )


# ---- two numbers ----------------------------------------------------------------------------------------------------


def lengths(rows: Sequence[Ranked]) -> list[Figure]:
    """Mean length against win rate, a point for each model."""
    points = [
        Point(x=r.mean_length, y=r.win_rate, name=r.model, mark=str(r.rank)) for r in rows if r.mean_length is not None
    ]
    title = "Length and win rate, by rank"
    clouds = [Cloud(label="models", points=points)]
    return scatter(Scatter(title=title, across="mean length, characters", up="win rate", clouds=clouds, level=HALF))


def styles(found: Results) -> Part:
    """Ratings at equal style with the raw ones under them, and what each feature earns; by judge."""
    ratings = [
        Forest(
            title=f"Rating at equal style, by {judge}",
            strips=[
                strip
                for r in some
                for strip in (
                    Strip(name=r.model, note="at equal style", found=r.controlled),
                    Strip(name=r.model, note="raw", found=r.rating, slot=7),
                )
            ],
        )
        for judge, some in grouped(found.sections.styles, lambda r: r.judge)
    ]
    earned = [
        Forest(
            title=f"One standard deviation more earns, by {judge}",
            strips=[Strip(name=r.feature, found=r.effect) for r in some],
            middle=0.0,
            signed=True,
        )
        for judge, some in grouped(found.sections.effects, lambda r: r.judge)
    ]
    note = "Words, Markdown headers, lists and bold parts of two answers are set against each other in one fit."
    return part_of([*ratings, *earned], note=note)


def frontier(found: Results) -> list[Figure]:
    """Reward and length against KL, a path for each run."""
    runs = grouped(found.sections.frontier, lambda r: r.run)
    return [
        figure
        for up in ("reward", "length")
        for figure in scatter(
            Scatter(
                title=f"{up.capitalize()} against KL",
                across="KL to the reference, nats",
                up=up,
                clouds=[_path(run, rows, up, slot) for slot, (run, rows) in enumerate(runs)],
            )
        )
    ]


def _path(run: str, rows: Sequence[Checkpoint], up: str, slot: int) -> Cloud:
    points = [
        Point(x=r.kl, y=getattr(r, up), name=f"{run}, step {r.step:,}", mark=f"{r.step:,}")
        for r in sorted(rows, key=lambda r: r.step)
        if getattr(r, up) is not None
    ]
    return Cloud(label=run, slot=slot, joined=True, points=points)
