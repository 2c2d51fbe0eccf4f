"""`rounds/round-001/`: what a round was made of, in ordinary files, so that another program can learn from it.

    prompts.jsonl       {"number", "row", "prompt"}: which turn it was, and which row of the prepared data
    completions.jsonl   {"number", "place", "text", "reward" (null: not judged), "rewards" by function, "length" in
                        tokens, "stop_reason", "part": chosen, rejected, or empty}
    pairs.jsonl         {"prompt", "chosen", "rejected", "chosen_reward", "rejected_reward"}, as methods over pairs read
                        it; without pairs whose texts are equal, or one of them empty, which no such method can use
    evaluation.json     held-out metrics by the weights at its end, as in test.json, and the `step` that made them

Written whole, each in one go. A round that is made again after a kill has the same files again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from align.errors import RunError
from align.functional.selection import best_against_worst
from align.rewards.base import text_of
from align.rollout.writer import Prompt, Trajectory, Writer
from align.sources.harvest import Harvest
from align.system.files import inner_folder, remove, replace_file
from align.training.evaluate import Evaluation

ROUNDS = "rounds"  # in the run folder
PROMPTS, COMPLETIONS, PAIRS, EVALUATION = "prompts.jsonl", "completions.jsonl", "pairs.jsonl", "evaluation.json"
Row = dict[str, Any]
Key = tuple[int, int]  # number of the prompt, place of the completion


@dataclass(frozen=True)
class RoundFiles:
    """Written by the main process."""

    folder: Path
    writer: Writer  # of the completions, which knows the forms of rows
    lasting: int  # steps of a round

    def of(self, number: int) -> Path:
        """The folder of a round, counted from 0."""
        return self.folder / f"round-{number + 1:03d}"

    def judged(
        self, number: int, written: Sequence[Trajectory], harvest: Harvest, prompt_of: Callable[[int], Prompt]
    ) -> None:
        """All that was written in this round, and what of it is learned from."""
        if not self.writer.world.main:
            return
        prompts = {n: prompt_of(n) for n in dict.fromkeys(t.number for t in written)}
        asked = [{"number": n, "row": p.row, "prompt": p.columns["prompt"]} for n, p in prompts.items()]
        pairs = _pairs(harvest)
        self._write(number, PROMPTS, _lines(asked))
        self._write(number, COMPLETIONS, _lines(self._told(written, harvest, pairs)))
        self._write(number, PAIRS, _lines(self._rows(harvest, pairs, prompts)))

    def evaluated(self, version: int, found: Evaluation) -> None:
        """An evaluation by the weights of `version`, which is kept where a round ends with them."""
        number, rest = divmod(version, self.lasting)
        if self.writer.world.main and number and not rest:
            self._write(number - 1, EVALUATION, json.dumps({"step": version, **found.told()}, indent=1) + "\n")

    def forget(self, begun: int, step: int) -> None:
        """What is of rounds from `begun` on, and evaluations of later weights than those of `step`."""
        if not self.writer.world.main:
            return
        for folder in self.folder.glob("round-*"):
            number = int(folder.name.removeprefix("round-")) - 1
            if number >= begun:
                remove(folder)
            elif (number + 1) * self.lasting > step:
                remove(folder / EVALUATION)

    def _told(self, written: Sequence[Trajectory], harvest: Harvest, pairs: Sequence[tuple[int, int]]) -> Iterator[Row]:
        parts = {_key(harvest.rows[i]): part for pair in pairs for i, part in zip(pair, PARTS, strict=True)}
        for t, reward in zip(written, harvest.rewards.tolist(), strict=True):
            yield {
                "number": t.number, "place": t.place, "text": t.text, "reward": reward if reward == reward else None,
                "rewards": t.rewards, "length": t.length, "stop_reason": t.stop, "part": parts.get(_key(t), ""),
            }  # fmt: skip

    def _rows(
        self, harvest: Harvest, pairs: Sequence[tuple[int, int]], prompts: dict[int, Prompt]
    ) -> Iterator[Row]:
        rewards = harvest.whole.batch.rewards.tolist()
        for pair in pairs:
            two = [harvest.rows[i] for i in pair]
            chosen, rejected = (self.writer.sample(prompts[t.number], t.place, t.tokens) for t in two)
            texts = [text_of(s.completion) for s in (chosen, rejected)]
            if all(texts) and texts[0] != texts[1]:
                yield {
                    "prompt": chosen.prompt, "chosen": chosen.completion, "rejected": rejected.completion,
                    "chosen_reward": rewards[pair[0]], "rejected_reward": rewards[pair[1]],
                }  # fmt: skip

    def _write(self, number: int, name: str, text: str) -> None:
        path = self.of(number) / name
        try:
            inner_folder(self.folder)
            inner_folder(path.parent)
            replace_file(path, text)
        except OSError as error:
            raise RunError(f"{path}: cannot be written: {error}; make room, then go on with --resume") from error


PARTS = ("chosen", "rejected")


def _pairs(harvest: Harvest) -> list[tuple[int, int]]:
    """Of the rows that are learned from, the best and the worst of each prompt."""
    rows = harvest.kept.any(-1).nonzero()[:, 0]
    batch = harvest.whole.batch
    best, against = best_against_worst(batch.rewards[rows], batch.groups[rows])
    found = zip(rows[best].tolist(), rows[against[best]].tolist(), strict=True)
    return list(found)


def _key(t: Trajectory) -> Key:
    return t.number, t.place


def _lines(rows: Sequence[Row] | Iterator[Row]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
