"""Completions of several turns: who wrote which token, where they end, and that neighbours change nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from online_rig import online_rig

from align.errors import RunError
from align.lab import bandit, calculator
from align.methods.base import find_method
from align.rewards.verdicts import RewardFunctions
from align.rollout.engine import Request, Sampling, StopReason, Written, room_of
from align.rollout.turns import ENDED, Talk, Turns
from align.rollout.writer import Job, Seconds, Trajectory, from_line, line
from align.sources.harvest import tokens_of

PROMPT = np.array([1, 2], dtype=np.int32)
LONG = Sampling(max_completion_length=40, stop_token_ids=(), stop_strings=(">>",))


def encode(text: str) -> list[int]:
    return [ord(c) for c in text]


def decode(ids: Sequence[int]) -> str:
    return "".join(map(chr, ids))


@dataclasses.dataclass
class Script:
    """An engine that writes what stands in a script: for each seed and number of turns so far, a text."""

    turns: Mapping[int, Sequence[str]]

    def write(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Written]]:
        return [[self._one(request, seed, sampling) for seed in request.seeds] for request in requests]

    def _one(self, request: Request, seed: int, sampling: Sampling) -> Written:
        so_far = decode(request.prefix.tolist())
        room, last = room_of(request, sampling)
        text = self.turns[seed][so_far.count(">>")]
        stop = StopReason.STRING if text.endswith(">>") else StopReason.EOS
        stop = stop if len(text) <= room else last
        ids = np.array(encode(text)[:room], dtype=np.int32)
        return Written(ids, np.full(len(ids), -1.0, dtype=np.float32), stop, 3)


def turns(environment: Any = calculator.reply, max_turns: int = 8) -> Turns:
    return Turns("my:environment", environment, encode, decode, max_turns)


def talked(script: Mapping[int, Sequence[str]], these: Turns, sampling: Sampling = LONG) -> list[Talk]:
    engine = Script(script)
    talks = [Talk(PROMPT, seed, "Q", {"answer": 84}, f"completion {seed}") for seed in script]
    for talk in talks:
        talk.take(engine.write([Request(PROMPT, (talk.seed,))], sampling)[0][0])
    these.go_on(engine, talks, sampling)
    return talks


def test_replies_stand_between_the_turns_and_are_masked():
    (talk,) = talked({0: ["<<12*7>>", " <<84+1>>", " so 85"]}, turns())
    assert decode(talk.tokens) == "<<12*7>>84 <<84+1>>85 so 85"
    theirs = [i for i, mine in enumerate(talk.mask) if not mine]
    assert decode([talk.tokens[i] for i in theirs]) == "8485"
    assert talk.logps == [-1.0 if mine else 0.0 for mine in talk.mask]
    assert talk.stop == StopReason.ENVIRONMENT


def test_the_environment_sees_prompt_text_and_row():
    seen: list[tuple[Any, str, Any]] = []

    def environment(prompt: Any, text: str, columns: Mapping[str, Any]) -> str | None:
        seen.append((prompt, text, dict(columns)))
        return None

    talked({0: ["hello"]}, turns(environment))
    assert seen == [("Q", "hello", {"answer": 84})]


@pytest.mark.parametrize(
    ("script", "max_turns", "longest", "text", "stop"),
    [
        (["<<1+1>>", "<<2+2>>", "no"], 2, 40, "<<1+1>>2<<2+2>>", StopReason.STRING),  # the last turn is not answered
        (["<<1+1>>"], 1, 40, "<<1+1>>", StopReason.STRING),
        (["<<9*9>>", "x"], 8, 8, "<<9*9>>8", StopReason.LENGTH),  # the reply is cut
        (["<<9*9>>", "x"], 8, 9, "<<9*9>>81", StopReason.LENGTH),  # and where it fills the room, nothing follows
        (["<<9*9>>", "xyz"], 8, 11, "<<9*9>>81xy", StopReason.LENGTH),
        (["a long turn"], 8, 6, "a long", StopReason.LENGTH),  # what was cut is not answered
    ],
)
def test_where_a_dialogue_ends(script: list[str], max_turns: int, longest: int, text: str, stop: StopReason):
    (talk,) = talked({0: script}, turns(max_turns=max_turns), dataclasses.replace(LONG, max_completion_length=longest))
    assert (decode(talk.tokens), talk.stop) == (text, stop)
    assert len(talk.tokens) == len(talk.mask) == len(talk.logps)


def test_talks_of_different_lengths_do_not_disturb_each_other():
    scripts = {0: ["<<12*7>>", "84"], 1: ["no call"], 2: ["<<1+1>>", "<<2+2>>", "ok"], 3: ["a long turn" * 9]}
    together = [(t.tokens, t.mask, t.stop) for t in talked(scripts, turns())]
    alone = [(t.tokens, t.mask, t.stop) for s in scripts for t in talked({s: scripts[s]}, turns())]
    assert together == alone


def broken(prompt: Any, text: str, columns: Mapping[str, Any]) -> str:
    return text + 1  # type: ignore[operator]


@pytest.mark.parametrize(
    ("environment", "told"), [(broken, "TypeError: .*line "), (lambda *_: 7, "returned int; expected a text, or None")]
)
def test_an_environment_that_fails_stops_the_run(environment: Any, told: str):
    with pytest.raises(RunError, match=f"rollout.environment my:environment: completion 0: {told}.*--resume"):
        talked({0: ["a"]}, turns(environment))


# ---- with a model, an experience ----------------------------------------------------------------------------------


def bandit_turns() -> Turns:
    """Answers every first turn with two tokens; says that it is over after the second."""

    def environment(prompt: Any, text: str, columns: Mapping[str, Any]) -> str | None:
        return "3 2" if "3 2" not in text else None

    def ids(text: str) -> list[int]:
        return [int(word) for word in text.split()]

    return Turns("bandit", environment, ids, lambda tokens: " ".join(map(str, tokens)), 4)


def rig(folder: Path, max_rows: int = 64) -> Any:
    made = online_rig(find_method("rloo")(), folder, max_completion_length=7, max_rows=max_rows)
    sampling = dataclasses.replace(made.source.writer.sampling, stop_token_ids=(bandit.EOS, 4, 5))
    made.source.writer = dataclasses.replace(made.source.writer, sampling=sampling, turns=bandit_turns())
    return made


def written(made: Any, numbers: Sequence[int]) -> list[Trajectory]:
    prompts = [made.source.prompts(n, n + 1)[0] for n in numbers]
    jobs = [Job(prompt=p, places=tuple(range(4))) for p in prompts]
    return [t for c in made.source.writer.chunks(jobs) for t in made.source.writer.write(c, 0, Seconds())]


def test_a_dialogue_is_the_same_whatever_is_written_beside_it(tmp_path: Path):
    together = {(t.number, t.place): t for t in written(rig(tmp_path), range(8))}
    assert len({t.stop for t in together.values()}) > 1
    assert any(t.by_policy.count(False) == 2 for t in together.values())
    for number in range(8):
        for one in written(rig(tmp_path, max_rows=1), [number]):
            other = together[one.number, one.place]
            assert (one.tokens, one.mask, one.stop) == (other.tokens, other.mask, other.stop)
            np.testing.assert_allclose(one.logps, other.logps, rtol=1e-4, atol=1e-5)


def test_log_probabilities_of_every_turn_are_the_models(tmp_path: Path):
    made = rig(tmp_path)
    model = made.trainee.module.model
    for t in written(made, range(8)):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([[*t.prompt, *t.tokens]])).logits[0, len(t.prompt) - 1 : -1]
        right = logits.log_softmax(-1).gather(1, torch.tensor(t.tokens)[:, None]).squeeze(1)
        right = right.masked_fill(~torch.tensor(t.by_policy), 0.0)
        np.testing.assert_allclose(t.logps, right.numpy(), rtol=1e-4, atol=1e-5)


def test_nothing_is_learned_from_the_environments_tokens(tmp_path: Path):
    made = rig(tmp_path)
    said = written(made, range(8))
    harvest = made.source.harvester.harvest(said, made.source.method)
    mask = harvest.whole.batch.completion.mask
    for row, t in enumerate(said):
        assert mask[row, : len(t.tokens)].tolist() == t.by_policy
        assert not mask[row, len(t.tokens) :].any()
        assert tokens_of(t).mask.tolist() == t.by_policy
        assert (harvest.whole.batch.advantages[row][~mask[row]] == 0).all()
    assert not (harvest.kept & ~mask).any()
    assert np.isfinite(made.step().metrics["loss"])


def test_a_line_holds_the_mask():
    common = {"row": 0, "number": 0, "place": 0, "prompt": [1], "logps": [-1.0, 0.0], "version": 0, "text": ""}
    t = Trajectory(tokens=[5, 6], stop="environment", mask=[True, False], **common)
    assert from_line(line(t, 3)) == t
    assert t.finished
    assert Trajectory(tokens=[5, 6], stop="eos", **common).by_policy == [True, True]
    assert StopReason.LENGTH not in ENDED


# ---- a world in which the calculator is used ------------------------------------------------------------------------

WORDS = ["", "<end>", "<<2*3>>", "<<2+3>>", "<<6>>", "6", "5", "hm"]  # a token's text
CALLS = tuple(i for i, word in enumerate(WORDS) if word.endswith(">>"))


def told_six(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    """The calculator's own 6: a call ends the policy's turn, so that it cannot have written what comes next."""
    return [float("<<2*3>>6" in text) for text in completions]


def test_a_policy_learns_to_ask_the_calculator(tmp_path: Path):
    made = online_rig(find_method("rloo")(kl_coef=0.0), tmp_path, rate=1e-2, max_completion_length=4)

    def spoken(ids: Sequence[int]) -> str:
        return "".join(WORDS[i] for i in ids if i < len(WORDS))

    class Spoken:
        pad_token_id = bandit.BOS

        def decode(self, ids: Any, **options: Any) -> str:
            return spoken(ids)

    writer = made.source.writer
    these = Turns("calculator", calculator.reply, lambda text: [WORDS.index(text)], spoken, 2)
    functions = RewardFunctions({"told_six": told_six}, {"told_six": 1.0})
    made.source.writer = dataclasses.replace(
        writer, turns=these, reward_functions=functions, tokenizer=Spoken(),
        sampling=dataclasses.replace(writer.sampling, stop_token_ids=(bandit.EOS, *CALLS)),
    )  # fmt: skip
    made.source.harvester = dataclasses.replace(made.source.harvester, reward_functions=functions)
    earned: list[float] = []
    for _ in range(12):
        earned.append(made.source.next(made.progress).metrics["reward"])
        made.step()
    assert earned[0] < 0.5
    assert np.mean(earned[-3:]) > 0.9
