#!/usr/bin/env bash
# Lint, types and tests, in an environment of their own; what CI runs.
#
#   bash scripts/test.sh [--peers] [--all | --fast] [PYTEST ARGUMENT ...]
#
#   --peers   with PyTorch and the zoos to compare with; without it, tests that need
#             them are skipped
#   --all     with the exhaustive tests, which repeat on more networks what others show,
#             and with --peers the contract on PyTorch
#   --fast    without the slow tests and the second backends
#
# From the first word on that is not an option of this script, the rest is pytest's:
# a path, -k cnn, or -- and then anything.
set -euo pipefail
cd "$(dirname "$0")/.."

extras=(jax test text tune)
backends=(jax)
selection=(-m "not exhaustive")
contract="contract and not exhaustive"
all=false
while (($#)); do
    case $1 in
        --peers) extras+=(peers) ;;
        --all) selection=() contract=contract all=true ;;
        --fast) backends=() selection=(-m "not slow and not exhaustive") ;;
        --) shift && break ;;
        --*)
            echo "error: unknown option '$1'; known are --peers, --all, --fast and --" >&2
            exit 2
            ;;
        *) break ;;
    esac
    shift
done

# Without --all, PyTorch builds and predicts every family in the agreement test alone.
if $all && [[ " ${extras[*]} " == *" peers "* ]]; then backends+=(torch); fi

environment=$(bash scripts/environment.sh "${extras[@]}")
export PATH=$environment/bin:$PATH PYTHONPATH=$PWD
export TF_CPP_MIN_LOG_LEVEL=3 HF_HUB_OFFLINE=1
# Most of JAX's time goes into compiling small programs once.
export JAX_COMPILATION_CACHE_DIR=$environment/compiled
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0
export JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES=-1
$all || export JAX_DISABLE_MOST_OPTIMIZATIONS=1

ruff check
ruff format --check
mypy kzoo

run_pytest() { # BACKEND [ARGUMENT ...]
    echo "pytest on $1"
    # Each worker takes half of the files, so that few models are made in both.
    KERAS_BACKEND=$1 python -m pytest -n 2 --dist worksteal "${@:2}"
}

run_pytest tensorflow ${selection[@]+"${selection[@]}"} "$@"
for backend in ${backends[@]+"${backends[@]}"}; do
    status=0
    run_pytest "$backend" -m "$contract" "$@" || status=$?
    # pytest's 5: no test was left, as when the caller asked for other ones.
    if ((status != 0 && !(status == 5 && $# > 0))); then exit "$status"; fi
done
