#!/usr/bin/env bash
# A TPU VM or a pod slice: create it, install kzoo, train, go on after a preemption,
# delete it. Every host of the slice runs the same command; JAX joins them.
#
#   bash scripts/tpu/tpu.sh [--dry-run] create | install | delete
#   bash scripts/tpu/tpu.sh [--dry-run] train MODEL [ARGUMENT OF kzoo train ...]
#   bash scripts/tpu/tpu.sh [--dry-run] keep MODEL [ARGUMENT OF kzoo train ...]
#
# `keep` trains until the run is finished, on a new slice whenever the old one was taken
# away: the snapshots lie in the bucket. --dry-run prints what would be run.
#
# Settings, from the environment:
#   TPU_NAME      kzoo               name of the slice
#   TPU_ZONE      us-central1-a
#   TPU_TYPE      v5litepod-8        v5litepod-256 is a slice of 32 hosts
#   TPU_VERSION   v2-alpha-tpuv5-lite
#   TPU_SPOT      true               cheaper, and taken away at any time
#   BUCKET                           Cloud Storage bucket that all hosts write to
set -euo pipefail
cd "$(dirname "$0")/../.."

name=${TPU_NAME:-kzoo}
zone=${TPU_ZONE:-us-central1-a}
type=${TPU_TYPE:-v5litepod-8}
version=${TPU_VERSION:-v2-alpha-tpuv5-lite}
spot=${TPU_SPOT:-true}

fail() {
    echo "error: $1" >&2
    exit 2
}

dry_run=false
if [[ ${1:-} == --dry-run ]]; then
    dry_run=true
    shift
fi
verb=${1:-}
if (($#)); then shift; fi
bucket=${BUCKET:-}
if [[ $verb == install || $verb == train || $verb == keep ]]; then
    [[ -n $bucket ]] || fail "BUCKET is not set: where all hosts see the run"
fi
if [[ $verb == train || $verb == keep ]]; then
    (($#)) || fail "$verb needs a model, as kzoo train does"
fi

run() {
    if $dry_run; then
        printf '%q ' "$@"
        echo
    else
        "$@"
    fi
}

tpu() { run gcloud compute tpus tpu-vm "$@" --zone "$zone"; }

on_all_hosts() { tpu ssh "$name" --worker all --command "$1"; }

create() {
    local options=(--accelerator-type "$type" --version "$version")
    if [[ $spot == true ]]; then options+=(--spot); fi
    tpu create "$name" "${options[@]}"
}

install() {
    tpu scp --recurse kzoo setup.cfg pyproject.toml README.md LICENSE \
        "$name:" --worker all
    on_all_hosts "python3 -m venv kzoo-environment &&
        kzoo-environment/bin/pip install --quiet '.[jax]' 'jax[tpu]' &&
        mkdir -p runs && (mountpoint -q runs || gcsfuse --implicit-dirs $bucket runs)"
}

# The hosts of a slice and the number of this one, from its metadata; see
# kzoo/distribution/cluster.py for the variables.
# shellcheck disable=SC2016 # it is expanded on the hosts
join='attribute() {
    curl --silent --fail --header "Metadata-Flavor: Google" \
        "http://metadata.google.internal/computeMetadata/v1/instance/attributes/$1"
}
hosts=$(attribute worker-network-endpoints | tr "," "\n" | cut -d: -f3)
count=$(wc -l <<<"$hosts")
if ((count > 1)); then
    export KERAS_DISTRIBUTION_JOB_ADDRESSES=$(head -n 1 <<<"$hosts"):8482
    export KERAS_DISTRIBUTION_NUM_PROCESSES=$count
    export KERAS_DISTRIBUTION_PROCESS_ID=$(attribute agent-worker-number)
fi'

train() {
    local words
    words=$(printf '%q ' "$@")
    on_all_hosts "$join
        kzoo-environment/bin/python -m kzoo train $words \
        --backend jax --distribution data_parallel --out runs/$name"
}

standing() {
    gcloud compute tpus tpu-vm describe "$name" --zone "$zone" \
        --format 'value(state)' 2>/dev/null || echo MISSING
}

keep() {
    while true; do
        if $dry_run || [[ $(standing) != READY ]]; then
            tpu delete "$name" --quiet || true # what is left of a preempted one
            create
            install
        fi
        if train "$@"; then break; fi
        [[ $(standing) != READY ]] ||
            fail "the training ended on its own, and the TPU is there; see above"
    done
}

case $verb in
    create | install) "$verb" ;;
    train | keep) "$verb" "$@" ;;
    delete) tpu delete "$name" --quiet ;;
    *) fail "unknown verb '$verb'; known are create, install, train, keep and delete" ;;
esac
