#!/usr/bin/env bash
# From nothing to a report, on one CPU in a few minutes: SFT, reward model, DPO, then RLOO, where the policy writes for
# itself, and an evaluation; on shipped data and a shipped model.
#
#   bash launch/pipelines/quickstart.sh [FOLDER [key=value ...]]        default: runs/quickstart
#
# What is changed is changed in every stage: runs/quickstart-bf16 training.mixed_precision=bf16
# It can be repeated: a stage that has ended is not run again, one that was cut goes on where it was.
set -euo pipefail

OUT=${1:-runs/quickstart}
source "$(dirname "$0")/stages.sh"

# 1. Imitate the polite answers.
stage sft sft

# 2. Learn to tell a polite answer from a rude one: a number for each. From the base model, which does better here than
#    what SFT has made of it (tests/bench/cross_validation_polite_pairs.json).
stage reward_model reward_model

# 3. Prefer polite to rude, from where SFT ended, and no further from it than beta allows.
stage dpo dpo "model.model_name_or_path=$OUT/sft"

# 4. Go on with stories, and earn by happy words: the policy writes, the reward counts, RLOO learns.
stage rloo rloo

# 5. Did it help? SFT and DPO answer the held-out questions; the reward model says which answer is the more polite, and
#    a rule which is the longer, for that alone may be what a judge likes.
echo
echo "==> evaluation: align-eval generate, judge, compare, report"
align-eval generate asset:polite_pairs/test.jsonl --out "$OUT/evaluation" --model "sft=$OUT/sft" --model "dpo=$OUT/dpo"
align-eval judge "$OUT/evaluation" --judge "reward:$OUT/reward_model" --judge rule:longer
align-eval compare sft dpo -e "$OUT/evaluation"
align-eval report "$OUT/evaluation"

# Held-out pairs, the same 109 for both; held-out openings of stories.
align summary "$OUT" \
    reward_model_accuracy=reward_model:accuracy \
    dpo_accuracy=dpo:accuracy \
    sft_likelihood_accuracy=dpo:before/likelihood_accuracy \
    dpo_likelihood_accuracy=dpo:likelihood_accuracy \
    online_reward_before=rloo:before/reward \
    online_reward_after=rloo:reward \
    online_kl=rloo:training/kl
align report "$OUT"
echo
echo "Open $OUT/report.html in a browser, and from there $OUT/evaluation/report.html. Talk to the model: align chat $OUT/dpo"
echo "(Its 260 thousand weights can learn a manner of speaking, and hardly any sense.)"
