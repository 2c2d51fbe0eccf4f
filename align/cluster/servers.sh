
# vLLM servers: a keeper on each of their nodes starts, watches and ends what the run orders. Orders, and where the
# servers listen, stand in a folder that all see. The keepers are this job's first step, the ranks its second.
RANKS=$SLURM_JOB_ID.1
export ALIGN_SERVERS=$RUN/launch/servers-$ALIGN_ATTEMPT
export ALIGN_NUM_SERVERS=@num_servers@ ALIGN_SERVERS_OF_NODE=@servers_of_node@ ALIGN_SERVER_GPUS=@gpus_of_server@
mkdir -p "$ALIGN_SERVERS"
srun --overlap @where@ --kill-on-bad-exit=0 --cpu-bind=none bash -c '
    trap "" USR1 USR2
    exec @keeper@' >"$ALIGN_SERVERS/keepers.log" 2>&1 &
KEEPERS=$!
placed() { ls "$ALIGN_SERVERS" | grep -c '^place-.*json$'; }
for ((i = 0; i < 5 * @wait@; i++)); do
    if [ "$(placed)" = @num_servers@ ] || ! kill -0 $KEEPERS 2>/dev/null; then break; fi
    sleep 0.2
done
if [ "$(placed)" != @num_servers@ ]; then
    cat "$ALIGN_SERVERS/keepers.log" >&2
    echo "align: of @num_servers@ places for vLLM servers some cannot be used: their keepers have not answered in" \
        "$ALIGN_SERVERS within @wait@ seconds; it must be seen by all nodes, and align must start there" >&2
    exit 2
fi
