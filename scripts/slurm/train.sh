#!/usr/bin/env bash
# A training on several nodes under SLURM, which goes on after a preemption or its time
# limit: SIGTERM comes two minutes before the end, kzoo takes a snapshot and exits with
# 75, and the job queues again.
#
#   sbatch --nodes 4 scripts/slurm/train.sh MODEL --out DIR [ARGUMENT OF kzoo train ...]
#   bash scripts/slurm/train.sh --dry-run MODEL --out DIR ...     prints what would run
#
# One process a node takes all its GPUs. DIR must be the same folder on every node.
# BACKEND (default: tensorflow) is tensorflow or jax; PYTHON is an interpreter with kzoo.
#SBATCH --job-name=kzoo
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=TERM@120
set -euo pipefail

fail() {
    echo "error: $1" >&2
    exit 2
}

dry_run=false
if [[ ${1:-} == --dry-run ]]; then
    dry_run=true
    shift
fi
(($#)) || fail "name a model and --out DIR, as for kzoo train"
[[ " $* " == *" --out"* ]] || fail "--out DIR is missing"

backend=${BACKEND:-tensorflow}
case $backend in
    tensorflow) distribution=multi_worker ;;
    jax) distribution=data_parallel ;;
    *) fail "BACKEND=$backend is neither tensorflow nor jax" ;;
esac

# kzoo/distribution/cluster.py finds the other processes in srun's variables.
command=(srun --kill-on-bad-exit=1
    "${PYTHON:-python}" -m kzoo train "$@"
    --backend "$backend" --distribution "$distribution")
if $dry_run; then
    printf '%q ' "${command[@]}"
    echo
    exit
fi

status=0
"${command[@]}" || status=$?
if ((status == 75)); then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
