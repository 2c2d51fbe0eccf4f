# Sourced by the pipelines: how a stage is run, and with how many threads.

export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # the models are so small that a second thread only waits for the first
CHANGES=("${@:2}") # what stands behind the folder on the pipeline's command line

stage() { # NAME RECIPE [key=value ...]: a stage that has ended is not run again, one that was cut goes on where it was
    local name=$1 recipe=$2
    shift 2
    echo
    set -- "$@" "${CHANGES[@]}"
    echo "==> $name: align train $recipe training.output_dir=$OUT/$name $* --resume"
    align train "$recipe" "training.output_dir=$OUT/$name" "$@" --resume
}
