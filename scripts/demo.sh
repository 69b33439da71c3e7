#!/usr/bin/env bash
# Trains the CNN on the embedded digits, in an environment of its own, and leaves the
# run in runs/demo. Further arguments are those of `kzoo train`: --epochs 5, --seed 1.
set -euo pipefail
cd "$(dirname "$0")/.."

environment=$(bash scripts/environment.sh)
export PYTHONPATH=$PWD

out=runs/demo
fresh=()
if [[ -e $out ]]; then fresh=(--fresh); fi
"$environment/bin/python" -m kzoo train cnn --dataset digits \
    ${fresh[@]+"${fresh[@]}"} "$@" --out "$out"

echo "model:    $out/model"
echo "history:  $out/history.csv"
echo "plots:    $out/plots"
