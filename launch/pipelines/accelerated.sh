#!/usr/bin/env bash
# A reward model from pairs, a policy that imitates the better answers, and three rounds in which it writes, is judged by
# the reward model, and learns from its best against its worst: once plainly (DPO in rounds), once with the jump ahead. On
# one CPU in some minutes; on shipped data and a shipped model.
#
#   bash launch/pipelines/accelerated.sh [FOLDER [key=value ...]]        default: runs/accelerated
#
# What is changed is changed in every stage. It can be repeated: a stage that has ended is not run again, one that was cut
# goes on where it was.
set -euo pipefail

OUT=${1:-runs/accelerated}
source "$(dirname "$0")/stages.sh"

# 1. What judges: a number for each answer, polite above impolite.
stage reward_model reward_model

# 2. What writes: the polite answers imitated once, so that there is something to be judged.
stage sft sft training.num_train_epochs=1

# 3. and 4. Three rounds, each with other prompts. The pairs that the rounds were made of stand in rounds/ of each run.
ROUNDS=(
    "model.model_name_or_path=$OUT/sft"
    data.train=asset:polite_pairs/train.jsonl data.validation=0.1 data.test=asset:polite_pairs/test.jsonl
    'data.columns={prompt: "{instruction}\n{input}"}' data.max_length=256
    "reward.functions=[{name: learned, settings: {model: $OUT/reward_model}}]"
    rollout.num_prompts=290 training.num_train_epochs=null training.max_steps=60 # 20 steps a round
)
stage plain accelerated_po "${ROUNDS[@]}" method.extrapolation_alpha=0
stage accelerated accelerated_po "${ROUNDS[@]}"

# Held-out prompts, the same for both.
align summary "$OUT" \
    reward_model_accuracy=reward_model:accuracy \
    reward_before=accelerated:before/reward \
    reward_plain=plain:reward \
    reward_accelerated=accelerated:reward \
    length_plain=plain:completion_length \
    length_accelerated=accelerated:completion_length
align report "$OUT"
