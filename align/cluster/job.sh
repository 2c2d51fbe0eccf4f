@options@
# Written by `align launch slurm`. It may be changed and submitted again: sbatch @script@
set -u
cd @cwd@
export PYTHONPATH=@code@ PYTHONSAFEPATH=1 # the code as it was when this was submitted
RUN=@run@
@prelude@
# What the submitting shell had set for another launcher.
unset $(env | grep -oE '^(ACCELERATE|FSDP|TORCHELASTIC)_[A-Za-z0-9_]*' | tr '\n' ' ') SLURM_CPU_BIND
export ALIGN_ATTEMPT=$SLURM_JOB_ID.${SLURM_RESTART_COUNT:-0}
ALL=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
NODES=$(echo "$ALL" | head -n @nodes@) # of the ranks
echo "==== attempt $((${SLURM_RESTART_COUNT:-0} + 1)) of job $SLURM_JOB_ID, $(date '+%Y-%m-%d %H:%M:%S'), on" $ALL
if [ "$SLURM_NTASKS" != @asked@ ]; then
    echo "align: Slurm gave $SLURM_NTASKS tasks, and @asked@ were asked for; see the #SBATCH lines" >&2
    exit 2
fi

# Where the ranks meet: the first node, which this shell is on, by an address that the others can reach, and a port at
# which nobody answers.
FIRST=$(echo "$NODES" | head -n 1)
export MASTER_ADDR=$(scontrol -o show node "$FIRST" | grep -o 'NodeAddr=[^ ]*' | cut -d= -f2)
export MASTER_PORT=$((20000 + RANDOM % 10000))
while (: <>"/dev/tcp/$MASTER_ADDR/$MASTER_PORT") 2>/dev/null; do MASTER_PORT=$((20000 + RANDOM % 10000)); done
export WORLD_SIZE=@ranks@ LOCAL_WORLD_SIZE=@of_node@
@sharding@
# What the ranks look at first, and how long they wait for a run that does not get on.
export ALIGN_RUN=$RUN ALIGN_RANKS=@ranks@ ALIGN_GPUS=@gpus@ ALIGN_NODES=$(echo $NODES)
export ALIGN_PREFLIGHT=@preflight@ ALIGN_PATIENCE=@patience@

RANKS=$SLURM_JOB_ID.0 # the step of Slurm that they are
KEEPERS=              # of vLLM servers: the srun that keeps them
@servers@
newest() { ls "$RUN/checkpoints" 2>/dev/null | grep '^step-' | sort | tail -n 1; }
BEGAN=$(newest) # the checkpoint that this attempt begins with
echo "==== begins with ${BEGAN:-step 1}"
ASKED=

ask() {
    ASKED=1
    echo "align: the time limit is near: the ranks are asked to save"
    scancel --signal=TERM "$RANKS"
}
trap ask USR2
ENDED=
trap 'ENDED=1' TERM # of Slurm, which tells the ranks, too; they save and end, and this shell waits for them

# When one rank has ended, well or not, the others have @grace@ seconds for what they are at. USR1 and USR2 are for this
# shell. What srun says of the ranks is kept, for of their exit codes it has the largest alone.
SAID=@folder@/srun-$ALIGN_ATTEMPT.txt
: >"$SAID"
srun @tasks@ --distribution=block --kill-on-bad-exit=0 --wait=@grace@ bash -c '
    trap "" USR1 USR2
    export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID GROUP_RANK=$SLURM_NODEID
    exec @command@ --resume' 2> >(tee -a "$SAID" >&2) &
STEP=$!

# Where all heartbeats stand still nobody is left, and srun waits for ever: so it is when the keeper of the step on a node
# was killed.
NONE=$(cksum </dev/null)
SILENCE="no rank has given a sign of life for @silence@ seconds"
watch() {
    local seen=$NONE still=0 now
    while [ "$still" -lt @silence@ ]; do
        sleep 5
        now=$(cat "$RUN/launch/attempt-$ALIGN_ATTEMPT"/rank-*.json 2>/dev/null | cksum)
        if [ "$now" = "$seen" ] && [ "$now" != "$NONE" ]; then still=$((still + 5)); else still=0; fi
        seen=$now
    done
    echo "$SILENCE" >>"$SAID"
    scancel --signal=CONT "$RANKS" # one that was stopped can say where
    sleep 5
    scancel --signal=KILL "$RANKS"
    sleep 5
    kill -KILL $STEP
}
watch &
WATCH=$!
while :; do
    wait $STEP
    CODE=$?
    kill -0 $STEP 2>/dev/null || break # otherwise a signal has ended the waiting
done
wait $STEP
CODE=$?
kill $WATCH 2>/dev/null
if [ -n "$KEEPERS" ]; then
    kill -0 $KEEPERS 2>/dev/null || cat "$ALIGN_SERVERS/keepers.log" >&2 # before their time
    scancel --signal=KILL "$SLURM_JOB_ID.0" 2>/dev/null
fi

FRUITLESS=@folder@/fruitless-$SLURM_JOB_ID # there after an attempt without a new checkpoint
again() { # REASON: back into the queue, unless that would go on for ever
    local attempt=$((${SLURM_RESTART_COUNT:-0} + 1))
    if [ -n "$ENDED" ]; then
        echo "align: $1; the job was cancelled or preempted: whether it comes back is for Slurm to say"
    elif [ "$attempt" -gt @most@ ]; then
        echo "align: $1; not put back into the queue: this was attempt $attempt (--max-requeues)" >&2
    elif [ "$(newest)" = "$BEGAN" ] && [ -e "$FRUITLESS" ]; then
        echo "align: $1; not put back into the queue: two attempts without a new checkpoint" >&2
    else
        if [ "$(newest)" = "$BEGAN" ]; then : >"$FRUITLESS"; else rm -f "$FRUITLESS"; fi
        NEWEST=$(newest)
        echo "align: $1; back into the queue, ${NEWEST:+after }${NEWEST:-without a checkpoint}"
        scontrol requeue "$SLURM_JOB_ID"
        sleep 60 # until Slurm takes this shell away
    fi
}
first() { sed '/Terminating StepId/q' "$SAID" | grep '^srun: error: .*tasks\{0,1\} '; } # of the ranks, before srun ended others
killed() { first | grep -v 'Exited with exit code' | head -n 1; }
codes() { first | grep -o 'Exited with exit code [0-9]*$' | grep -o '[0-9]*$'; }
FALLEN=$([ -n "$KEEPERS" ] && tail -n 1 "$ALIGN_SERVERS/fallen" 2>/dev/null)
if [ "$CODE" = 0 ]; then
    exit 0
elif grep -qxF "$SILENCE" "$SAID"; then
    again "$SILENCE"
elif [ -n "$(killed)" ]; then
    again "$(killed)"
elif [ -n "$ASKED" ] && ! codes | grep -qx 2; then
    again "stopped before the time limit"
elif codes | grep -qvx '69\|75'; then
    CODE=$(codes | grep -vx '69\|75' | head -n 1) # a mistake or a failure, which another attempt would meet again
elif codes | grep -qx 69; then
    again "${FALLEN:-a rank was lost, or none got on} (align launch doctor $RUN)"
fi
exit $CODE
