#!/usr/bin/env bash
# Everything that only a GPU can show, prepared as one script of under eight minutes for a machine that is lent:
#
#   bash tests/bench/gpu_smoke.sh [PEAK_TFLOPS]     the GPU's dense bfloat16 peak for the bench; default 989 (H100, H200)
#
# Runs the quickstart, every method's step, attention's kernels, ranks, rollouts, resume, side by side; then, alone on the
# machine, the bench against TRL. Says at its end what passed, failed or was left out, and ends with 1 where one failed.
#
#   OUT=FOLDER      where summary.txt, figures.jsonl, the bench's table and logs.tar.gz go; default: runs/gpu_smoke
#   WHEELS=FOLDER   wheels of packages that the machine lacks, where nothing can be fetched (pydantic and its needs; trl
#                   and datasets for the bench); they go into a folder of their own
#   PATIENCE=N      times as long for each part, to try the script on a CPU
#   SECONDS_ALL=N   for the whole, default 460: the bench gets what is left, and is cut there
#
# Two ranks: NCCL forbids two processes on one GPU. They share it over gloo; NCCL is tried with one rank.
set -uo pipefail
cd "$(dirname "$0")/../.."

PEAK=${1:-989}
OUT=${OUT:-runs/gpu_smoke}
LIMIT=${SECONDS_ALL:-460}
WORK=$(mktemp -d)
PYTHON=${PYTHON:-python3}
mkdir -p "$OUT" "$WORK/bin" "$WORK/logs"
trap 'kill $(jobs -p) 2>/dev/null; rm -rf "$WORK"' EXIT

export PYTHONPATH=$PWD PYTHONUNBUFFERED=1 OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} TOKENIZERS_PARALLELISM=false
export HF_HUB_OFFLINE=1 ALIGN_CACHE=$WORK/cache
if [ -n "${WHEELS:-}" ]; then
    "$PYTHON" -m pip install -q --no-index --no-deps --no-compile --target "$WORK/site" "$WHEELS"/*.whl || exit 2
    export PYTHONPATH=$PWD:$WORK/site
fi
printf '#!/bin/sh\nexec %s -m align "$@"\n' "$PYTHON" >"$WORK/bin/align"
chmod +x "$WORK/bin/align"
export PATH=$WORK/bin:$PATH

"$PYTHON" - <<'EOF' || exit 2
import importlib.util, sys
missing = [m for m in ("torch", "transformers", "accelerate", "peft", "pydantic", "typer", "rich", "jaxtyping", "yaml", "matplotlib")
           if importlib.util.find_spec(m) is None]
if missing:
    sys.exit(f"gpu_smoke: not installed here: {', '.join(missing)}; give their wheels by WHEELS=FOLDER")
import torch
print("torch", torch.__version__, "on", torch.cuda.get_device_name(0) if torch.cuda.is_available() else "the CPU: nothing of a GPU is shown")
EOF

declare -A PIDS LIMITS
NAMES=()
start() { # NAME SECONDS COMMAND...: beside the others
    local name=$1 seconds=$2
    shift 2
    NAMES+=("$name")
    seconds=$((seconds * ${PATIENCE:-1}))
    LIMITS[$name]=$seconds
    (
        begun=$SECONDS
        timeout -k 5 "$seconds" "$@" >"$WORK/logs/$name.txt" 2>&1
        echo $? $((SECONDS - begun)) >"$WORK/$name.rc"
    ) &
    PIDS[$name]=$!
}
check() { start "$1" "$2" "$PYTHON" -m tests.bench.gpu_checks "$1" "$WORK/runs/$1"; }

start quickstart 270 bash launch/pipelines/quickstart.sh "$WORK/quickstart"
check methods 270
check kernels 240
check ranks 240
check rollouts 240
check resume 200
wait

LEFT=$((LIMIT - SECONDS))
if ! "$PYTHON" -c 'import trl, datasets' 2>/dev/null; then
    WITHOUT="trl or datasets is not installed"
elif ! "$PYTHON" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    WITHOUT="there is no GPU"
elif [ "$LEFT" -lt 40 ]; then
    WITHOUT="no time is left"
else
    start bench "$((LEFT - 10))" "$PYTHON" -m tests.bench.gpu --peak-tflops "$PEAK" --repetitions 2 --out "$OUT"
    wait
fi

# ---- what was found -------------------------------------------------------------------------------------------------
FAILED=0
{
    for name in "${NAMES[@]}"; do
        read -r code seconds <"$WORK/$name.rc"
        case $code in
        0) echo "passed  $name (${seconds} s)" ;;
        124 | 137)
            # The bench writes its table after each case: cut, it has shown what is in it.
            if [ "$name" = bench ] && [ -s "$OUT/benchmarks_gpu.json" ]; then
                echo "cut     bench after ${seconds} s; the cases before are in its table"
            else
                echo "FAILED  $name: not done in ${LIMITS[$name]} s"
                FAILED=1
            fi
            ;;
        *)
            echo "FAILED  $name: exit code $code after ${seconds} s"
            FAILED=1
            ;;
        esac
        grep -h '^WRONG' "$WORK/logs/$name.txt" | sed 's/^/        /'
        if [ "$code" != 0 ]; then tail -n 15 "$WORK/logs/$name.txt" | sed 's/^/        | /'; fi
    done
    [ -n "${WITHOUT:-}" ] && echo "left out  bench: $WITHOUT"
    [ -f "$WORK/quickstart/summary.json" ] && cat "$WORK/quickstart/summary.json"
    echo "$SECONDS s in all"
} >"$OUT/summary.txt"
grep -h '^FOUND' "$WORK"/logs/*.txt | sed 's/^FOUND //' >"$OUT/figures.jsonl"
tar -czf "$OUT/logs.tar.gz" -C "$WORK" logs
cat "$OUT/figures.jsonl" "$OUT/summary.txt"
exit $FAILED
