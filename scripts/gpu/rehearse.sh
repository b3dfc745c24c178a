#!/usr/bin/env bash
# Both plans on this machine's CPU, with a tiny model and a few seconds for each step: `whole` from nothing, then `more` on what it made. About four minutes.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PYTHON=${PYTHON:-$PWD/.venv/bin/python} RECIPE=$PWD/scripts/gpu/tiny.yaml CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS=1
export MINUTES=1 SCALE=0.015
place=${1:-$(mktemp -d)}
export CARRIED=$place/carried WORK=$place/work SETS=$place/sets
mkdir -p "$CARRIED/handed"

for PLAN in whole more; do
  export PLAN OUT=$place/out/$PLAN
  bash scripts/gpu/run.sh begin
  bash scripts/gpu/run.sh end
  [ "$(find "$OUT" -type f | wc -l)" -le 8 ] || { echo "it leaves more than 8 files" >&2; exit 1; }
  [ -z "$(find "$OUT" -type f -size +16M)" ] || { echo "it leaves a file over 16 MiB" >&2; exit 1; }
  rm -f "$CARRIED"/handed/*
  cp "$OUT"/model.tar.* "$CARRIED/handed/"
done

bash scripts/gpu/ship.sh "$OUT" "$place/shipped"
"$PYTHON" -m anystory generate "a fox" --model "$place/shipped" --steps 2 --out "$place/pictures"
ls -l "$place/pictures"
echo "rehearsed: results in $place"
