"""What no single key says: several keys that are one of ours, or one whose value means another thing.

Read `method` first (which method it is, and its knobs), then `batch`, `optimiser`, `course` (how long, evaluations,
what is kept), `model`, `rows` with `mixtures` and `templates`, `writing` and `rewards` (where the policy writes). These
speak TRL's words; `axolotl`, `llama_factory` and `openrlhf` have what these projects alone say.
"""
