"""TRL's trainers by another import: `from align.trl import DPOConfig, DPOTrainer`.

The config classes are TRL's own. What they and the trainers are given becomes a recipe, by the table of words of
`align translate`, and this package's loop runs it; what is not offered is refused by name before anything is trained.
Read `trainers` first, then `arguments` (a config as a recipe), `adapters` (peft's configs), `rewards` (functions as TRL
calls them) and `callbacks` (what looks on, and the log).
"""

from __future__ import annotations

from trl import DPOConfig, GRPOConfig, KTOConfig, RewardConfig, RLOOConfig, SFTConfig

from align.trl.trainers import DPOTrainer, GRPOTrainer, KTOTrainer, RewardTrainer, RLOOTrainer, SFTTrainer

__all__ = [
    "DPOConfig", "DPOTrainer", "GRPOConfig", "GRPOTrainer", "KTOConfig", "KTOTrainer", "RLOOConfig", "RLOOTrainer",
    "RewardConfig", "RewardTrainer", "SFTConfig", "SFTTrainer",
]  # fmt: skip
