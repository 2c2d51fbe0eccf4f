#!/usr/bin/env bash
# Learn the weights, then train anew: what each source of answers is worth by ScaleBiO, then SFT of the base model on
# rows that are drawn by these weights, beside SFT on as many rows of each. On one CPU in some minutes; on shipped data
# and a shipped model.
#
#   bash launch/pipelines/reweight.sh [FOLDER [key=value ...]]        default: runs/reweight
#
# What is changed is changed in every stage. It can be repeated: a stage that has ended is not run again, one that was cut
# goes on where it was. The trusted rows have helped to choose the weights, so nothing is tested on them.
set -euo pipefail

OUT=${1:-runs/reweight}
source "$(dirname "$0")/stages.sh"

# 1. The weights; the model that learned them is not used.
stage weights scalebio

# 2. From the base model, as many rows of each source.
stage uniform mixed_sft

# 3. From the base model, rows by the learned weights.
stage reweighted mixed_sft "data.weights_from=$OUT/weights"

# The same held-out polite answers for all three.
align summary "$OUT" \
    policy_of_the_weights_loss=weights:loss \
    uniform_loss=uniform:loss \
    reweighted_loss=reweighted:loss \
    effective_sources=weights:training/effective_sources
align report "$OUT"
