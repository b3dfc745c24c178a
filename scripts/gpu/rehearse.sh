#!/usr/bin/env bash
# All commands in turn on this machine's CPU, with a tiny model and a few seconds each: does each one run on what the
# last one handed on, within the limits of the lent machine? Takes one to two minutes.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PYTHON=${PYTHON:-$PWD/.venv/bin/python} RECIPE=scripts/gpu/tiny.yaml THREADS=1 CUDA_VISIBLE_DEVICES=
for name in VAE CLIP BASE ENCODER ROUTER; do
  export "${name}_MINUTES=0.04" "${name}_SAMPLES=600" "${name}_DRAWING=0.03"
done
place=${1:-$(mktemp -d)}
export CARRIED=$place/carried WORK=$place/work
mkdir -p "$CARRIED/handed"

rehearse() {  # SCRIPT: run it, check what it left, and carry its weights to the next
  export OUT=$place/out/$1
  mkdir -p "$OUT"
  bash "scripts/gpu/$1.sh"
  [ "$(find "$OUT" -type f | wc -l)" -le 8 ] || { echo "$1 leaves more than 8 files" >&2; exit 1; }
  [ -z "$(find "$OUT" -type f -size +16M)" ] || { echo "$1 leaves a file over 16 MiB" >&2; exit 1; }
  rm -f "$CARRIED"/handed/*
  cp "$OUT"/model.tar.* "$CARRIED/handed/"
}

rehearse 1-vae-clip
rehearse 2-base
mv "$place/out/2-base" "$place/out/2-base-first"
FIRST=600 rehearse 2-base  # and once more on its own weights
rehearse 3-encoder
rehearse 4-router

bash scripts/gpu/ship.sh "$place/out/4-router" "$place/shipped"
"$PYTHON" -m anystory generate "a fox" --model "$place/shipped" --steps 2 --out "$place/pictures"
ls -l "$place/pictures"
echo "rehearsed: results in $place"
