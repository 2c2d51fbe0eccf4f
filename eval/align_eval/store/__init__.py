"""An evaluation's folder: items, answers, verdicts and scores, as they are added to and read.

Read `folder` first: which files there are, and how writers that know nothing of each other add to them. `rows` turns
the records into JSON and back, and `repeated` finds what is there twice. `judges` notes who has judged, and
`differing` says in what two such notes differ.
"""

from align_eval.store.folder import (
    append_answers,
    append_items,
    append_scores,
    append_verdicts,
    read_answers,
    read_items,
    read_scores,
    read_verdicts,
)

__all__ = [
    "append_answers", "append_items", "append_scores", "append_verdicts",
    "read_answers", "read_items", "read_scores", "read_verdicts",
]  # fmt: skip
