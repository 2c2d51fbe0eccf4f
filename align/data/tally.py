"""What is counted while rows are read, and what is said of it in the end."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from align.data.reading.sources import Place
from align.data.settings import DataSection
from align.data.store import Counts
from align.errors import UserError

SHOWN = 5  # bad rows that are shown in full
TOLD = 12  # other findings, the most frequent ones
OVERLONG_SHARE = 0.1  # of the usable rows; more than this dropped for length is a mistake


@dataclass
class Tally:
    """What goes into the final reports."""

    section: DataSection
    bad: list[str] = field(default_factory=list)  # the first few
    num_bad: int = 0
    usable: int = 0
    overlong: int = 0
    lengths: array[int] = field(default_factory=lambda: array("i"))  # longest member of each usable row, before any cut
    told: Counter[tuple[str, str]] = field(default_factory=Counter)  # rows of (a source, what is worth knowing)

    def refuse(self, place: Place, finding: Any) -> None:
        """Counts a row that cannot be used."""
        self.num_bad += 1
        self.bad += [f"{place}: {finding}"] if len(self.bad) < SHOWN else []

    def tell(self, source: str, findings: Iterable[str]) -> None:
        """Counts a row of a source under each of the findings."""
        self.told.update({(source, finding) for finding in findings})

    def judge(self, read: int) -> None:
        """UserError for bad rows, unless they may be dropped, and for too many overlong ones."""
        if self.num_bad and (self.section.bad_rows == "error" or self.usable == 0):
            more = f"\n... and {self.num_bad - len(self.bad)} more" if self.num_bad > len(self.bad) else ""
            cure = "correct them, or set data.bad_rows: drop" if self.usable else "is data.columns right?"
            raise UserError("\n".join(self.bad) + f"{more}\n{self.num_bad} of {read} rows cannot be used; {cure}")
        if self.overlong > OVERLONG_SHARE * self.usable:
            lengths = np.frombuffer(self.lengths, dtype=np.int32)
            half, most, nearly, longest = (int(q) for q in np.quantile(lengths, (0.5, 0.9, 0.99, 1.0), method="higher"))
            limit = self.section.max_length
            share = f"{self.overlong} of {self.usable} rows ({self.overlong / self.usable:.0%})"
            raise UserError(
                f"data.max_length: {share} do not fit into {limit} tokens with data.overlong: {self.section.overlong}. "
                f"Half of the rows have up to {half} tokens, 90 % up to {most}, 99 % up to {nearly}, the longest "
                f"{longest}. Set data.max_length={most} or more (as far as the model's context goes), or "
                "data.overlong: cut_prompt or cut_completion"
            )

    def notes(self, counts_of: Mapping[str, Counts], template: str) -> list[str]:
        """What the user should be told, one line each; `counts_of` are the splits."""
        notes: list[str] = []
        prompt = self.section.max_prompt_length
        cut_to = f"{self.section.max_length} tokens" + (f", {prompt} of the prompt" if prompt else "")
        for name, counts in counts_of.items():
            found = {
                "rows dropped that cannot be used": counts.bad,
                f"rows dropped with more than {self.section.max_length} tokens": counts.overlong,
                f"rows cut to {cut_to}": counts.shortened,
                "rows tokenized apart, because the tokenizer merges across the end of the prompt": counts.apart,
            }
            notes += [f"{name}: {n} {what}" for what, n in found.items() if n]
        if self.section.chat_template_kwargs and not any(c.templated for c in counts_of.values()):
            notes.append("data.chat_template_kwargs: no row is written by the chat template, so they change nothing")
        dated = "strftime_now" in template and not self.section.chat_template_kwargs
        if dated and any(c.templated for c in counts_of.values()):
            day = "the chat template writes the day on which the data are prepared"
            notes.append(f"{day}; where it reads an argument for it (date_string), data.chat_template_kwargs fixes it")
        notes += [f"{source}: {n} rows: {finding}" for (source, finding), n in self.told.most_common(TOLD)]
        return notes + [f"dropped: {finding}" for finding in self.bad]
