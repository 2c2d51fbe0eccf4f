#!/usr/bin/env bash
# Real, noisy human preferences: three reward models (seeds 0, 1, 2) and DPO, beside a bag of the words that
# the reward model reads, and one of the pieces of words that DPO reads.
#
#   bash launch/pipelines/hh_harmless.sh [FOLDER [key=value ...]]       default: runs/hh_harmless; some minutes on two
#   cores
#
# The data are offensive by design and stand in tests/data, so this runs from a checkout. It can be repeated.
set -euo pipefail

OUT=${1:-runs/hh_harmless}
source "$(dirname "$0")/stages.sh"

for seed in 0 1 2; do
    stage "reward_model_$seed" hh_harmless_reward_model "training.seed=$seed"
done
stage dpo hh_harmless_dpo

align summary "$OUT" \
    reward_model_accuracy=reward_model_0,reward_model_1,reward_model_2:accuracy \
    bag_of_words_accuracy=reward_model_0:baselines/bag_of_words_accuracy \
    bag_of_pieces_accuracy=dpo:baselines/bag_of_words_accuracy \
    dpo_accuracy=dpo:accuracy
align report "$OUT"
echo
echo "Open $OUT/report.html in a browser."
