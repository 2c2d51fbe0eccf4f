"""The recipe's section `data`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from align.system.ranges import AtLeastOne, Positive, ShareBelowOne


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """One place that rows come from, in a mixture."""

    source: str  # FILE.jsonl|.json|.csv (or .gz), .parquet, a folder of save_to_disk, the hub's, asset:NAME
    weight: Positive = 1.0  # share of the draws; 1.0 everywhere with equal sizes is the plain union
    name: str = ""  # what it is called where its weight is learned; empty: as the file
    columns: dict[str, str] = field(default_factory=dict)  # as data.columns, for this source alone
    split: str = "train"  # which split of a hub data set, or of a saved folder that has several


@dataclass(frozen=True, kw_only=True)
class DataSection:
    """Which rows, how they are read, and what is done with those that do not fit."""

    train: str | list[DataSource] = ""  # a source, or a weighted mixture of them
    mixture: Literal["shares", "rows"] = "shares"  # several sources: by their weights; or all rows
    validation: str | ShareBelowOne = 0.0  # a source, or the share of `train`'s prompts that is held out, by hash
    test: str | ShareBelowOne = 0.0  # as validation; never seen by early stopping nor keep-best
    trusted: str = ""  # of a method over two levels: a small set of rows as all should be, none of which is in `train`
    weights_from: str = ""  # a run that has learned weights of these sources of `train`: they are drawn by them
    columns: dict[str, str] = field(default_factory=dict)  # {ours: theirs} or {ours: "template with {theirs}"}
    max_length: AtLeastOne = 1024  # tokens of prompt and completion together
    max_prompt_length: int = 0  # tokens of a prompt beside its BOS, of which the end is kept; 0: no limit of its own
    # rows above max_length; cut_prompt keeps its end
    overlong: Literal["drop", "cut_prompt", "cut_completion"] = "drop"
    bad_rows: Literal["error", "drop"] = "error"  # rows that cannot be used: no `chosen`, chosen equal to rejected, ...
    loss_on: Literal["assistant", "completion", "all"] = "completion"  # learned: every assistant turn, the last, all
    chat_template: str = ""  # a Jinja file that replaces the tokenizer's own; empty keeps it
    # what the template is given: {enable_thinking: false}
    chat_template_kwargs: dict[str, Any] = field(default_factory=dict)
    special_tokens: list[str] | Literal["all"] = field(default_factory=list)  # those that rows may write by name
    num_rows: int = 0  # only the first rows of each source; 0 takes all
