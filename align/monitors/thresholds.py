"""From where on a number says that a policy that writes is in trouble: while it runs, and in its report."""

from __future__ import annotations

HALF = 0.5  # share of completions cut, or of prompts whose completions all earn the same
TENTH = 0.1  # share of completions that no reward function judged
RATIO = 0.01  # that pi / pi_old may be away from 1 before anything has been learned from an experience
GAP = 0.05  # nats between sampler and trainer, a token: bf16 rounds to 0.015 or so, float32 to 1e-6
COLLAPSED = 0.1  # of the entropy at the beginning
