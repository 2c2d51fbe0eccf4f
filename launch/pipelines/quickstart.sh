#!/usr/bin/env bash
# From nothing to a report, on one CPU in a few minutes: SFT, reward model, DPO on shipped data and a shipped model.
#
#   bash launch/pipelines/quickstart.sh [FOLDER]        default: runs/quickstart
#
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

# Held-out pairs, the same 109 for both.
align summary "$OUT" \
    reward_model_accuracy=reward_model:accuracy \
    dpo_accuracy=dpo:accuracy \
    sft_likelihood_accuracy=dpo:before/likelihood_accuracy \
    dpo_likelihood_accuracy=dpo:likelihood_accuracy
align report "$OUT"
echo
echo "Open $OUT/report.html in a browser. Talk to the model: align chat $OUT/dpo"
echo "(Its 260 thousand weights can learn a manner of speaking, and hardly any sense.)"
