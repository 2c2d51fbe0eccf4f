"""What is written in a format and read again is what it was, but for the losses that were told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from align.errors import UserError
from align.judges.base import Verdict
from align_eval.analysis.evaluation import Evaluation, evaluation_of
from align_eval.cli import main
from align_eval.formats.base import Names, key_of
from align_eval.formats.moving import bring, take_out
from align_eval.formats.table import FORMATS
from align_eval.records import Answer, Item, Score
from align_eval.store import append_answers, append_items, append_scores, append_verdicts

HOSTILE = 'He said "no", </script>\n\u2028 and left: \u00e9\U0001f600'
PROMPTS = ("Name a colour.", HOSTILE)


def evaluation(folder: Path, name: str) -> Path:
    """What the format has a place for."""
    ids = [key_of(p) for p in PROMPTS] if name == "alpaca_eval" else [f"t/{i}" for i in range(len(PROMPTS))]
    single = name in ("alpaca_eval", "arena_hard", "lm_eval", "inspect_ai", "rows")
    append_items(
        folder,
        [
            Item(
                id=i, prompt=p if single else [{"role": "user", "content": p}, {"role": "user", "content": "Why?"}],
                category="t" if name in ("lm_eval", "inspect_ai") else "of things",
                reference=None if name in ("alpaca_eval", "arena_hard") else "red",
                columns={"task": "t"} if name in ("lm_eval", "inspect_ai") else {},
            )
            for i, p in zip(ids, PROMPTS, strict=True)
        ],
    )  # fmt: skip
    turns = {"turns": ["Red", HOSTILE]} if name == "mt_bench" else {}
    text = f"Red\n\n[turn 2]\n\n{HOSTILE}" if turns else HOSTILE
    append_answers(folder, [Answer(item=i, model=m, text=text, columns=turns) for i in ids for m in ("a/1", "b")])
    append_verdicts(folder, list(_verdicts(ids, name)))
    if name in ("lm_eval", "inspect_ai", "rows"):
        append_scores(
            folder,
            [Score(item=i, model=m, metric="t:right", score=s, columns={"task": "t"} if name == "rows" else {})
             for i in ids for m, s in (("a/1", 1.0), ("b", 0.0))],
        )  # fmt: skip
    return folder


def _verdicts(ids: list[str], name: str):
    if name in ("lm_eval", "inspect_ai"):
        return
    columns = {"alpaca_eval": {"ordered": False}, "mt_bench": {"turn": 1}}.get(name, {})
    for i, item in enumerate(ids):
        for order in ("ab",) if name == "alpaca_eval" else ("ab", "ba"):
            yield Verdict(item=item, models=("a/1", "b"), judge="gpt-4", order=order, score=(1.0, 0.5)[i], raw=HOSTILE,
                          columns=columns, strong=name in ("arena_hard", "rows") and i == 0)  # fmt: skip
    missing = Verdict(item=ids[0], models=("b", "a/1"), judge="people", order="ab", score=None, why="", columns=columns)
    why = {"alpaca_eval": "the preference is null", "arena_hard": "no verdict label could be read (score null)",
           "mt_bench": "no winner could be read ('error')"}.get(name, "a person was ill")  # fmt: skip
    yield replace(missing, why=why)
    if name == "arena_hard":  # a game that was never played is one without a verdict
        yield replace(missing, why=why, order="ba")
    if name in ("mt_bench", "arena_hard", "rows"):
        grade = Verdict(item=ids[0], models=("b",), judge="grader", score=9.5, raw="[[9.5]]")
        yield replace(grade, columns={"turn": 1}) if name == "mt_bench" else grade


def rows_of(found: Evaluation) -> list[set[str]]:
    kinds = (found.items, found.answers, found.verdicts, found.scores)
    return [{repr(row) for row in rows} for rows in kinds]


@pytest.mark.parametrize("name", FORMATS)
def test_a_round_trip(tmp_path: Path, name: str) -> None:
    before = evaluation(tmp_path / "before", name)
    take_out(name, before, tmp_path / "files")
    bring(name, [tmp_path / "files"], tmp_path / "after")
    ours, theirs = evaluation_of(before), evaluation_of(tmp_path / "after")
    if name in ("lm_eval", "inspect_ai"):  # what is added: the document, what the filter made, no reason to stop
        theirs = replace(
            theirs,
            items=[replace(i, columns={k: v for k, v in i.columns.items() if k != "doc"}) for i in theirs.items],
            answers=[replace(a, stop="") for a in theirs.answers],
            scores=[replace(s, columns={}) for s in theirs.scores],
        )
    assert rows_of(theirs) == rows_of(ours)
    assert not theirs.warnings


def test_what_a_format_has_no_place_for_is_told(tmp_path: Path) -> None:
    before = evaluation(tmp_path / "before", "rows")
    told = {name: take_out(name, before, tmp_path / name).losses for name in FORMATS}
    assert told["rows"] == {}
    assert told["mt_bench"] == {"scores are not written: the format has no place for them": 4,
                                "`much better` is written as better": 2}  # fmt: skip
    assert told["alpaca_eval"]["ids of items: instructions are the keys"] == 2
    assert told["alpaca_eval"]["orders of verdicts: which was shown first"] == 5
    assert told["alpaca_eval"]["verdicts on one answer (grades)"] == 1
    assert told["lm_eval"]["verdicts"] == told["inspect_ai"]["verdicts"] == 6
    assert told["arena_hard"]["references of items"] == 2


def test_choices_come_back_with_their_log_likelihoods(tmp_path: Path) -> None:
    before = tmp_path / "before"
    append_items(before, [Item(id="sky/3", prompt="Sky is", category="sky", columns={"task": "sky"})])
    columns = {"logps": [-0.5, None], "choices": [" blue", " green"]}
    append_answers(before, [Answer(item="sky/3", model="m", text="blue", columns=columns)])
    append_scores(before, [Score(item="sky/3", model="m", metric="sky:acc", score=1.0)])
    losses = take_out("lm_eval", before, tmp_path / "files").losses
    assert losses == {"whether a choice is what the model would write: it is written as false": 1}
    bring("lm_eval", [tmp_path / "files"], tmp_path / "after")
    found = evaluation_of(tmp_path / "after")
    assert found.answers == evaluation_of(before).answers
    assert [(s.metric, s.score) for s in found.scores] == [("sky:acc", 1.0)]


def test_items_of_one_instruction_are_told(tmp_path: Path) -> None:
    append_items(tmp_path / "e", [Item(id=str(i), prompt="Why?") for i in range(3)])
    append_answers(tmp_path / "e", [Answer(item="0", model="m", text="So.")])
    losses = take_out("alpaca_eval", tmp_path / "e", tmp_path / "files").losses
    assert losses["items of one instruction become one item: Why?"] == 3


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = evaluation(tmp_path / "before", "mt_bench")
    assert main(["export", "mt_bench", str(before), "-o", str(tmp_path / "files")]) == 0
    assert "2 items, 4 answers, 6 verdicts; 1 verdicts or scores have no value" in capsys.readouterr().out
    assert main(["import", "mt_bench", str(tmp_path / "files"), "--into", str(tmp_path / "after")]) == 0
    assert "2 items, 4 answers, 6 verdicts" in capsys.readouterr().out
    assert main(["import", "mt_bench", str(tmp_path / "nothing"), "--into", str(tmp_path / "after")]) == 2
    assert "nothing: no such file" in capsys.readouterr().err


def test_nothing_is_written_where_a_file_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "good.jsonl").write_text('{"id": "1", "prompt": "Why?"}\n')
    (tmp_path / "wrong.jsonl").write_text('{"id": "2", "prompt": 3}\n')
    with pytest.raises(UserError, match=r"wrong\.jsonl:1: prompt"):
        bring("rows", [tmp_path / "good.jsonl", tmp_path / "wrong.jsonl"], tmp_path / "after")
    assert not (tmp_path / "after").exists()


def test_verdicts_alone_make_items_without_a_prompt_and_say_so(tmp_path: Path) -> None:
    (tmp_path / "v.jsonl").write_text('{"item": "1", "models": ["a", "b"], "judge": "me", "score": 1.0}\n')
    moved = bring("rows", [tmp_path / "v.jsonl"], tmp_path / "after", Names())
    assert moved.losses == {"verdicts do not say which answer was shown first": 1,
                            "items without a prompt: the files do not have them": 1}  # fmt: skip
