#!/usr/bin/env bash
# Starts the training or the sweep of this folder on a Kubernetes cluster that has JobSet
# (https://jobset.sigs.k8s.io).
#
#   bash scripts/kubernetes/apply.sh [--dry-run] train | sweep
#
# IMAGE is one with kzoo in it, see the Dockerfile beside. --dry-run prints what would be
# applied, and talks to no cluster.
set -euo pipefail
cd "$(dirname "$0")"

fail() {
    echo "error: $1" >&2
    exit 2
}

dry_run=false
if [[ ${1:-} == --dry-run ]]; then
    dry_run=true
    shift
fi
[[ ${1:-} == train || ${1:-} == sweep ]] ||
    fail "unknown job '${1:-}'; known are train and sweep"
image=${IMAGE:-kzoo:latest}

filled=$(sed "s|image: kzoo:latest|image: $image|" "$1.yaml")
if $dry_run; then
    echo "$filled"
else
    kubectl apply --filename - <<<"$filled"
fi
