"""From a section to stores: nothing lost uncounted, no prompt in two splits, the same bytes for the same input."""

import dataclasses
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from align.batches import RowKind
from align.data.prepare import Splits, default_cache, prepare
from align.data.settings import DataSection, DataSource
from align.data.text.describe import describe
from align.errors import UserError

HERE = Path(__file__).parent
POLITE = DataSection(
    train="asset:polite_pairs/train.jsonl",
    columns={"prompt": "{instruction}\n{input}", "chosen": "\n{chosen}", "rejected": "\n{rejected}"},
    bad_rows="drop",
    max_length=512,
)


@pytest.fixture(scope="module")
def stories() -> Any:
    return AutoTokenizer.from_pretrained(HERE.parents[1] / "align" / "assets" / "stories260k")


@pytest.fixture(scope="module")
def minimind() -> Any:
    return AutoTokenizer.from_pretrained(HERE / "tokenizer-minimind6400")


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def pairs(count: int, name: str = "p") -> list[dict[str, Any]]:
    return [
        {"prompt": f"{name} {i}:", "chosen": f" good {i}", "rejected": f" bad {i}", "margin": i / 8}
        for i in range(count)
    ]


def made(section: DataSection, tokenizer: Any, cache: Path, kind: RowKind = "pairs", numbers: Any = ()) -> Splits:
    return prepare(section, kind, numbers, tokenizer, cache)


def test_the_shipped_pairs_come_back_as_they_were_written(stories: Any, tmp_path: Path) -> None:
    splits = made(dataclasses.replace(POLITE, validation=0.1), stories, tmp_path)
    counts = [s.counts for s in (splits.train, splits.validation, splits.test)]
    assert sum(c.read for c in counts) == 990
    assert sum(c.bad + c.overlong + c.rows for c in counts) == 990
    assert 60 < len(splits.validation) < 140
    assert len(splits.test) == 0
    raw = [json.loads(line) for line in Path("align/assets/polite_pairs/train.jsonl").read_text().splitlines()]
    for i in (0, 1, len(splits.train) - 1):
        source = raw[int(splits.train.place(i).split("row ")[1]) - 1]
        chosen, rejected = describe(splits.train, stories, i)
        prompt = (source["instruction"] + "\n" + source["input"]).rstrip()
        assert "".join(seen.text for seen in chosen) == f"<s> {prompt}\n{source['chosen']}</s>"
        said = "".join(seen.text for seen in rejected if seen.part == "learned")
        assert said == f"\n{source['rejected']}</s>"


def test_lengths_are_those_of_the_tokens_and_numbers_those_of_the_row(stories: Any, tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", [*pairs(30), {"prompt": "no", "chosen": " a", "rejected": " margin"}])
    store = made(DataSection(train=source), stories, tmp_path, numbers=("margin", "soft_label")).train
    for i, group in enumerate(store):
        assert group.index == i
        assert store.lengths(i) == tuple((len(m.prompt), len(m.completion)) for m in group.members)
        assert [len(m.mask) for m in group.members] == [len(m.completion) for m in group.members]
        assert group.members[0].prompt.tolist() == group.members[1].prompt.tolist()
        assert group.row == ({"margin": i / 8} if i < 30 else {})
    assert store.prompt_lengths.tolist() == [len(g.members[0].prompt) for g in store]
    with pytest.raises(IndexError):
        store[len(store)]


def test_a_prompt_stands_in_one_split_only_and_always_in_the_same(stories: Any, tmp_path: Path) -> None:
    rows = [{**row, "chosen": f" {k}"} for k in range(3) for row in pairs(200)]
    section = DataSection(train=write(tmp_path / "a.jsonl", rows), validation=0.2, test=0.1)
    splits = made(section, stories, tmp_path)

    def prompts(store: Any) -> list[str]:
        return [stories.decode(g.members[0].prompt) for g in store]

    parts = [prompts(s) for s in (splits.train, splits.validation, splits.test)]
    assert sum(map(len, parts)) == 600
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not set(parts[one]) & set(parts[other])
    assert 60 <= len(parts[1]) <= 180  # 120 expected; a prompt moves three rows
    reordered = dataclasses.replace(section, train=write(tmp_path / "b.jsonl", rows[::-1][:300]))
    again = made(reordered, stories, tmp_path)
    assert set(prompts(again.validation)) <= set(parts[1])
    assert set(prompts(again.test)) <= set(parts[2])


def test_prompts_of_train_in_a_separate_test_source_are_counted(stories: Any, tmp_path: Path) -> None:
    train = write(tmp_path / "a.jsonl", pairs(20))
    test = write(tmp_path / "b.jsonl", [*pairs(3), *pairs(4, "q")])
    splits = made(DataSection(train=train, test=test), stories, tmp_path)
    assert splits.test.counts.shared_prompts == 3
    assert "test: 3 rows have a prompt that train has too" in splits.notes


def test_bad_rows_are_all_counted_the_first_shown_with_file_and_row(stories: Any, tmp_path: Path) -> None:
    rows = [{**row, "rejected": row["chosen"]} if i % 2 else row for i, row in enumerate(pairs(20))]
    del rows[0]["chosen"]
    source = write(tmp_path / "a.jsonl", rows)
    with pytest.raises(UserError) as caught:
        made(DataSection(train=source), stories, tmp_path)
    message = str(caught.value)
    assert f"{source}: row 1: no `chosen`; the row has prompt, rejected, margin" in message
    assert f"{source}: row 2: `chosen` equals `rejected`" in message
    assert "... and 6 more" in message
    assert "11 of 20 rows cannot be used; correct them, or set data.bad_rows: drop" in message
    splits = made(DataSection(train=source, bad_rows="drop"), stories, tmp_path)
    assert (splits.train.counts.bad, len(splits.train)) == (11, 9)
    assert "train: 11 rows dropped that cannot be used" in splits.notes
    hopeless = write(tmp_path / "b.jsonl", [rows[1]])
    with pytest.raises(UserError, match=r"1 of 1 rows cannot be used; is data\.columns right\?"):
        made(DataSection(train=hopeless, bad_rows="drop"), stories, tmp_path)


def test_too_many_overlong_rows_stop_with_the_lengths(stories: Any, tmp_path: Path) -> None:
    rows = pairs(80)
    for row in rows[:10]:
        row["prompt"] = "long " * 100 + row["prompt"]
    source = write(tmp_path / "a.jsonl", rows)
    with pytest.raises(UserError, match=r"data\.max_length: 10 of 80 rows \(12%\).*Half of the rows.*cut_prompt"):
        made(DataSection(train=source, max_length=60), stories, tmp_path)
    cut = made(DataSection(train=source, max_length=60, overlong="cut_prompt"), stories, tmp_path).train
    assert (cut.shortened, cut.counts.overlong, len(cut)) == (10, 0, 80)
    assert max(p + c for i in range(80) for p, c in cut.lengths(i)) == 60
    assert cut[0].members[0].prompt[0] == stories.bos_token_id
    assert stories.decode(cut[0].members[0].prompt).endswith("p 0:")
    few = made(
        DataSection(train=write(tmp_path / "b.jsonl", [*rows[:1], *rows[10:]]), max_length=60), stories, tmp_path
    )
    assert (few.train.counts.overlong, len(few.train)) == (1, 70)


def test_the_cache_answers_the_same_question_and_no_other(stories: Any, tmp_path: Path) -> None:
    rows = pairs(10)
    one = write(tmp_path / "a.jsonl", rows)
    section = DataSection(train=[DataSource(source=one, weight=1.0)])
    ticks: list[int] = []
    first = prepare(section, "pairs", (), stories, tmp_path / "c", ticks.append)
    again = prepare(section, "pairs", (), stories, tmp_path / "c", ticks.append)
    assert ticks == [0, 10]
    assert first.fingerprint == again.fingerprint
    heavier = made(DataSection(train=[DataSource(source=one, weight=3.0)]), stories, tmp_path / "c")
    assert (heavier.fingerprint, heavier.weights) == (first.fingerprint, (3.0,))
    others = [
        made(dataclasses.replace(section, max_length=100), stories, tmp_path / "c"),
        made(section, stories, tmp_path / "c", "unpaired", ("label",)),
        made(section, stories, tmp_path / "c", numbers=("margin",)),
    ]
    write(tmp_path / "a.jsonl", rows[:9])
    others.append(made(section, stories, tmp_path / "c"))
    assert len({first.fingerprint, *(o.fingerprint for o in others)}) == 5
    assert len(others[-1].train) == 9


def test_another_tokenizer_or_template_is_another_question(stories: Any, minimind: Any, tmp_path: Path) -> None:
    section = DataSection(train=write(tmp_path / "a.jsonl", pairs(3)))
    template = tmp_path / "t.jinja"
    template.write_text("{{ messages[0].content }}")
    found = [
        made(section, stories, tmp_path),
        made(section, minimind, tmp_path),
        made(dataclasses.replace(section, chat_template=str(template)), stories, tmp_path),
    ]
    assert len({f.fingerprint for f in found}) == 3
    assert found[2].chat_template == "{{ messages[0].content }}"


def test_a_damaged_cache_is_made_again(stories: Any, tmp_path: Path) -> None:
    section = DataSection(train=write(tmp_path / "a.jsonl", pairs(10)))
    first = made(section, stories, tmp_path / "c")
    expected = [g.members[1].completion.tolist() for g in first.train]
    os.truncate(first.train.folder / "tokens.bin", 8)
    again = made(section, stories, tmp_path / "c")
    assert [g.members[1].completion.tolist() for g in again.train] == expected
    (again.train.folder.parent / "splits.json").unlink()
    assert len(made(section, stories, tmp_path / "c").train) == 10
    assert [p for p in (tmp_path / "c").iterdir() if p.name.startswith(".")] == []


def test_several_may_prepare_the_same_at_once(tmp_path: Path) -> None:
    section = DataSection(train=write(tmp_path / "a.jsonl", pairs(300)))
    folder = HERE.parents[1] / "align" / "assets" / "stories260k"
    tokenizers = [AutoTokenizer.from_pretrained(folder) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda t: made(section, t, tmp_path / "c"), tokenizers))
    assert {len(f.train) for f in found} == {300}
    assert len(list((tmp_path / "c").iterdir())) == 1


def test_the_same_rows_give_the_same_bytes(stories: Any, tmp_path: Path) -> None:
    section = DataSection(train=write(tmp_path / "a.jsonl", pairs(40)), validation=0.2)
    one, two = made(section, stories, tmp_path / "c"), made(section, stories, tmp_path / "d")
    for name in ("index.bin", "tokens.bin", "masks.bin"):
        assert (one.train.folder / name).read_bytes() == (two.train.folder / name).read_bytes()


def test_sources_stand_one_after_the_other_for_the_mixture(stories: Any, tmp_path: Path) -> None:
    one = DataSource(source=write(tmp_path / "a.jsonl", pairs(12)), weight=1.0)
    renamed = [{"question": r["prompt"], "chosen": r["chosen"], "rejected": r["rejected"]} for r in pairs(6, "q")]
    two = DataSource(source=write(tmp_path / "b.jsonl", renamed), weight=2.0, columns={"prompt": "question"})
    splits = made(DataSection(train=[one, two]), stories, tmp_path)
    assert list(splits.train.counts.sources.values()) == [12, 6]
    assert splits.train.place(12) == f"{two.source}: row 1"
    mixture = splits.mixture(seed=0)
    assert mixture.shares() == (6, 12)
    drawn = [splits.train.place(int(i)) for i in mixture.epoch(0)]
    assert sum("b.jsonl" in place for place in drawn) == 12


def test_only_a_few_rows_when_so_asked(stories: Any, tmp_path: Path) -> None:
    section = DataSection(train=write(tmp_path / "a.jsonl", pairs(12)), num_rows=5)
    assert len(made(section, stories, tmp_path).train) == 5


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (DataSection(), r"data\.train: no source"),
        (DataSection(train=[DataSource(source="x", weight=0.0)]), r"weight must be above 0"),
        (DataSection(train="x.jsonl", validation=0.6, test=0.5), r"together below 1"),
        (DataSection(train=[DataSource(source="x.jsonl"), DataSource(source="x.jsonl")]), r"listed twice"),
        (DataSection(train="missing.jsonl"), r"missing\.jsonl: no such file"),
    ],
)
def test_a_section_that_cannot_be_is_refused(section: DataSection, message: str, stories: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        made(section, stories, tmp_path)


def test_a_template_that_rewrites_earlier_turns_is_refused_with_the_row(stories: Any, tmp_path: Path) -> None:
    template = tmp_path / "t.jinja"
    template.write_text(
        "{% for m in messages %}{% if m.role == 'user' or loop.last %}{{ m.role + m.content }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}assistant{% endif %}"
    )
    turns = [
        {"role": r, "content": c} for r, c in (("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"))
    ]
    source = write(tmp_path / "a.jsonl", [{"messages": turns[:2]}, {"messages": turns}])
    section = DataSection(train=source, loss_on="assistant", chat_template=str(template))
    with pytest.raises(
        UserError, match=r"a\.jsonl: row 2: the chat template rewrites earlier turns .*loss_on: completion"
    ):
        made(section, stories, tmp_path, "demonstrations")
    splits = made(dataclasses.replace(section, loss_on="completion"), stories, tmp_path, "demonstrations")
    assert len(splits.train) == 2


def test_human_conversations_end_once_and_are_read_to_the_last_character(minimind: Any, tmp_path: Path) -> None:
    section = DataSection(
        train=str(HERE / "hh_harmless" / "train.jsonl"),
        test=str(HERE / "hh_harmless" / "test.jsonl"),
        max_length=1536,
        num_rows=150,
    )
    splits = made(section, minimind, tmp_path)
    assert (len(splits.train), len(splits.test)) == (150, 150)
    assert splits.train.counts.apart == 0
    for i in range(150):
        for member in splits.train[i].members:
            assert member.completion[-1] == minimind.eos_token_id
            assert np.sum(member.completion == minimind.eos_token_id) == 1
            assert minimind.decode(member.prompt).count("<|im_start|>assistant") >= 1
    raw = [json.loads(line) for line in (HERE / "hh_harmless" / "train.jsonl").read_text(encoding="utf-8").splitlines()]
    for i in (0, 70, 149):
        chosen, _ = splits.train[i].members
        assert minimind.decode(chosen.completion) == raw[i]["chosen"] + "<|im_end|>"


def test_imitating_the_chosen_answers_of_conversations(minimind: Any, tmp_path: Path) -> None:
    columns = {"prompt": "messages", "completion": "chosen"}
    section = DataSection(
        train=str(HERE / "hh_harmless" / "test.jsonl"), columns=columns, num_rows=20, max_length=1536, validation=0.0
    )
    store = made(section, minimind, tmp_path, "demonstrations").train
    assert (len(store), len(store[0].members)) == (20, 1)


def test_the_cache_stands_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALIGN_CACHE", str(tmp_path))
    assert default_cache() == tmp_path
    monkeypatch.delenv("ALIGN_CACHE")
    assert default_cache() == Path.home() / ".cache" / "align" / "data"
