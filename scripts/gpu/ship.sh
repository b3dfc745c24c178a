#!/usr/bin/env bash
# ship.sh FOLDER TARGET: the model that a command handed on (FOLDER/model.tar.*) as it ships, in shards of at most 16 MB.
set -euo pipefail
folder=$(realpath "$1") target=$(realpath -m "$2")
cd "$(dirname "$0")/../.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cat "$folder"/model.tar.* | tar -x -C "$scratch"
"${PYTHON:-.venv/bin/python}" - "$scratch" "$target" "${RECIPE:-mini-gpu}" <<'PYTHON'
import sys
from pathlib import Path

from anystory.training.model.packing import pack
from anystory.training.recipe import load_recipe

size = pack(Path(sys.argv[1]), Path(sys.argv[2]), load_recipe(sys.argv[3]))
print(f"packed: {sys.argv[2]} ({size / 2**20:.1f} MiB)")
PYTHON
