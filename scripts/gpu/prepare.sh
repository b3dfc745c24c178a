#!/usr/bin/env bash
# Here, once: put into runs/gpu (which git ignores) what a machine with PyTorch may lack. About 15 MB; needs pip and the network.
set -euo pipefail
cd "$(dirname "$0")/../.."
PIP=${PIP:-.venv/bin/python -m pip}
CARRIED=${CARRIED:-runs/gpu}
FOR=(--python-version 3.12 --implementation cp --only-binary=:all: --platform manylinux_2_28_x86_64
  --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Expected there: torch, transformers, accelerate, OpenCV, rich, typer. Add what else is missing.
NAMES='diffusers|skia-python|pydantic|pydantic-core|annotated-types|importlib-metadata|zipp|typing-inspection|typing-extensions'
grep -E "^($NAMES)==" constraints.txt >"$scratch/names.txt"
$PIP install -q --no-deps --no-compile --target "$scratch/site" "${FOR[@]}" -r "$scratch/names.txt"

# Skia links against GL and X11 without using them; the machine may have neither.
mkdir -p "$scratch/site/lib"
ldd "$(find "$scratch/site" -name 'skia*.so')" | awk '$3 ~ /lib(EGL|GL|GLX|GLdispatch|X11|xcb|Xau|Xdmcp|bsd|md|expat)\.so/ {print $3}' |
  xargs -I{} cp -L {} "$scratch/site/lib/"

mkdir -p "$CARRIED"
tar -C "$scratch/site" -c . | xz -T2 -6 >"$CARRIED/site.tar.xz"
ls -l "$CARRIED"
