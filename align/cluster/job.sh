@options@
# Written by `align launch slurm`. It may be changed and submitted again: sbatch @script@
set -u
cd @cwd@
export PYTHONPATH=@code@ PYTHONSAFEPATH=1 # the code as it was when this was submitted
RUN=@run@
@prelude@
# What the submitting shell had set for another launcher.
unset $(env | grep -oE '^(ACCELERATE|FSDP|TORCHELASTIC)_[A-Za-z0-9_]*' | tr '\n' ' ') SLURM_CPU_BIND
if [ "$SLURM_NTASKS" != @ranks@ ]; then
    echo "align: Slurm gave $SLURM_NTASKS ranks, and @ranks@ were asked for; see the #SBATCH lines" >&2
    exit 2
fi

# Where the ranks meet: the first node, by an address that the others can reach, and a port of this attempt's own.
FIRST=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_ADDR=$(scontrol -o show node "$FIRST" | grep -o 'NodeAddr=[^ ]*' | cut -d= -f2)
export MASTER_PORT=$((20000 + (SLURM_JOB_ID * 7 + ${SLURM_RESTART_COUNT:-0}) % 10000))
export WORLD_SIZE=@ranks@ LOCAL_WORLD_SIZE=@of_node@
@sharding@

newest() { ls "$RUN/checkpoints" 2>/dev/null | grep '^step-' | sort | tail -n 1; }
BEGAN=$(newest) # the checkpoint that this attempt begins with
ASKED=

ask() {
    ASKED=1
    echo "align: the time limit is near: the ranks are asked to save"
    scancel --signal=TERM "$SLURM_JOB_ID.0"
}
trap ask USR2
trap : TERM # Slurm tells the ranks, too; they save and end, and this shell waits for them

# One rank that fails ends the others. USR1 and USR2 are for this shell. What srun says of the ranks is kept, for of their
# exit codes it has the largest alone, and that is 143 of those that it has ended itself.
SAID=@folder@/srun-$SLURM_JOB_ID.txt
srun --kill-on-bad-exit=1 bash -c '
    trap "" USR1 USR2
    export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID GROUP_RANK=$SLURM_NODEID
    exec @command@ --resume' 2> >(tee "$SAID" >&2) &
STEP=$!
while :; do
    wait $STEP
    CODE=$?
    kill -0 $STEP 2>/dev/null || break # otherwise a signal has ended the waiting
done
wait $STEP
CODE=$?

again() { # REASON: back into the queue, unless that would go on for ever
    local attempt=$((${SLURM_RESTART_COUNT:-0} + 1))
    if [ "$attempt" -gt @most@ ]; then
        echo "align: $1; not put back into the queue: this was attempt $attempt (--max-requeues)" >&2
    elif [ "$(newest)" = "$BEGAN" ]; then
        echo "align: $1; not put back into the queue: no checkpoint since this attempt began" >&2
    else
        echo "align: $1; back into the queue after $(newest)"
        scontrol requeue "$SLURM_JOB_ID"
        sleep 60 # until Slurm takes this shell away
    fi
}
first() { sed '/Terminating StepId/q' "$SAID" | grep '^srun: error: .*tasks\{0,1\} '; } # of the ranks, before srun ended others
case "$CODE" in
    0) ;;
    75) if [ -n "$ASKED" ]; then again "stopped before the time limit"; fi ;;
    *)
        if first | grep -qv 'Exited with exit code'; then
            again "$(first | grep -v 'Exited with exit code' | head -n 1)"
        elif first >/dev/null; then
            CODE=$(first | head -n 1 | grep -o '[0-9]*$') # a mistake or a failure, which another attempt would meet again
        fi
        ;;
esac
exit $CODE
