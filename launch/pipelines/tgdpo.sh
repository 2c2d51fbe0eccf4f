#!/usr/bin/env bash
# A guide by DPO, stopped where its validation loss is best, and then TGDPO from the same start: each token counts by what
# the guide says of it. On one CPU in some minutes; on shipped data and a shipped model.
#
#   bash launch/pipelines/tgdpo.sh [FOLDER [key=value ...]]        default: runs/tgdpo-pipeline
#
# What is changed is changed in every stage. It can be repeated: a stage that has ended is not run again, one that was cut
# goes on where it was.
set -euo pipefail

OUT=${1:-runs/tgdpo-pipeline}
source "$(dirname "$0")/stages.sh"

# 1. The guide, which also is what TGDPO is compared with. A guide that has fitted its pairs knows single rows, not manners.
stage dpo dpo training.load_best_model_at_end=true training.early_stopping_patience=2

# 2. From the same weights again, not from the guide's.
stage tgdpo tgdpo "model.roles.guide=$OUT/dpo"

# Held-out pairs, the same for both.
align summary "$OUT" \
    dpo_accuracy=dpo:accuracy \
    tgdpo_accuracy=tgdpo:accuracy \
    guide_accuracy=tgdpo:guide_accuracy \
    negative_weights=tgdpo:negative_weights
align report "$OUT"
