"""`align-eval reward`: scores of reward models and implicit rewards, kept once for each answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from align.errors import UserError
from align.judges.named import JudgeSpec
from align.models.load import load_policy
from align.models.settings import ModelSection
from align.models.tokenizer import load_tokenizer
from align.rewards.learned import Reward
from align_eval.cli import main
from align_eval.judging.rewarding import reward
from align_eval.records import Answer, Item
from align_eval.store import append_answers, append_items, read_scores

STORIES = "asset:stories260k"
TEXTS = [" there was a cat.", " it rained.", ""]


@pytest.fixture(scope="module")
def reward_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("reward") / "model"
    section = ModelSection(model_name_or_path=STORIES)
    tokenizer = load_tokenizer(section, "scalar")
    load_policy(section, tokenizer, "scalar", Path()).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    append_items(tmp_path, [Item(id=f"q{i}", prompt="Once upon a time") for i in range(3)])
    append_answers(tmp_path, [Answer(item=f"q{i}", model="org/a", text=t) for i, t in enumerate(TEXTS)])
    append_answers(tmp_path, [Answer(item="q0", model="org/a", text=" again.", sample=1)])
    return tmp_path


def test_rewards_of_every_sample(folder: Path, reward_model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reward", str(folder), "--reward", f"reward:{reward_model}"]) == 0
    out = capsys.readouterr().out
    assert "reward:model: 4 answers (0 scored before)" in out
    assert "org/a: " in out
    right = Reward(reward_model)(["Once upon a time"] * 4, [*TEXTS, " again."])
    found = {(s.item, s.sample): s.score for s in read_scores(folder)}
    keys = [("q0", 0), ("q1", 0), ("q2", 0), ("q0", 1)]
    assert [found[key] for key in keys] == pytest.approx(right)
    assert main(["reward", str(folder), "--reward", f"reward:{reward_model}"]) == 0
    assert "(4 scored before)" in capsys.readouterr().out
    assert len(read_scores(folder)) == 4


def test_implicit_rewards_of_a_model_against_itself_are_nothing(folder: Path) -> None:
    spec = JudgeSpec(judge=f"implicit:{STORIES}", reference=STORIES, instructions="graded", name="dpo")
    found = reward(folder, spec)
    assert [s.score for s in found.scores] == [0.0] * 4
    assert {s.metric for s in found.scores} == {"dpo"}


def test_what_has_no_reward(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    append_answers(folder, [Answer(item="q1", model="org/b", text=" and" * 600)])
    assert main(["reward", str(folder), "--reward", f"implicit:{STORIES}", f"reference={STORIES}"]) == 0
    out = capsys.readouterr().out
    assert "1 without a reward: the answer of org/b: prompt and answer have" in out
    assert "2 of 3 items have no answer of org/b" in out
    (missing,) = [s for s in read_scores(folder) if s.score is None]
    assert missing.why


def test_what_failed_is_not_kept_and_asked_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A function that needs a service, which is down for some answers and then for none."""
    (tmp_path / "far_service.py").write_text(
        "from pathlib import Path\n"
        "def size(prompts, completions, **columns):\n"
        "    if Path(__file__).with_name('down').exists() and any('rained' in c for c in completions):\n"
        "        raise ConnectionError('the service is down')\n"
        "    return [float(len(c)) for c in completions]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "down").touch()
    words = ["reward", str(folder), "--reward", "rule:far_service:size"]
    assert main(words) == 4
    told = capsys.readouterr()
    assert "1 without a reward: the answer of org/a: " in told.out
    assert "the service is down" in told.out
    assert "without an answer: 1 answers by rule:far_service:size" in told.err
    assert len(read_scores(folder)) == 3
    (tmp_path / "down").unlink()
    assert main(words) == 0
    assert "4 answers (3 scored before)" in capsys.readouterr().out
    assert {s.score for s in read_scores(folder)} == {float(len(text)) for text in (*TEXTS, " again.")}


def test_mistakes(folder: Path, tmp_path: Path, reward_model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reward", str(folder)]) == 2
    assert main(["reward", str(folder), "--reward", f"implicit:{STORIES}"]) == 2
    assert "has no reference" in capsys.readouterr().err
    assert main(["reward", str(folder), "--reward", f"reward:{STORIES}"]) == 2
    assert "has no scalar head" in capsys.readouterr().err
    with pytest.raises(UserError, match="gives single answers no rewards"):
        reward(folder, JudgeSpec(judge="rule:longer"))
    spec = JudgeSpec(judge=f"reward:{reward_model}", instructions="graded")
    reward(folder, spec)
    for path in folder.glob("answers/*.jsonl"):
        path.unlink()
    append_answers(folder, [Answer(item="q0", model="org/a", text="changed")])
    with pytest.raises(UserError, match="1 answers were replaced since reward:model scored them"):
        reward(folder, spec)
