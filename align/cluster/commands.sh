@options@
# Written by `align launch pipeline`. It may be changed and submitted again: sbatch @script@
set -euo pipefail
cd @cwd@
export PYTHONPATH=@code@ PYTHONSAFEPATH=1 # the code as it was when this was submitted
@prelude@

run() {
    echo "==> $*"
    @container@ "$@"
}
@commands@
touch @done@ # a pipeline that is submitted again does not do this stage again
