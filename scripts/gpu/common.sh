# Sourced by the numbered scripts: where things are, and the two things each of them does.
#
# Settings, all with a default that fits the lent machine; rehearse.sh changes them for a CPU:
#   OUT       empty folder; what is left there comes back
#   CARRIED   folder that prepare.sh made: site.tar.xz, and handed/model.tar.* of the command before
#   WORK      scratch folder of this command
#   RECIPE PYTHON THREADS
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=true

: "${OUT:?set OUT to an empty folder for the results}"
CARRIED=${CARRIED:-runs/gpu}
WORK=${WORK:-/tmp/anystory-gpu}
RECIPE=${RECIPE:-mini-gpu}
PYTHON=${PYTHON:-python3}
THREADS=${THREADS:-0}
rm -rf "$WORK"
mkdir -p "$WORK" "$OUT"

# The lent machine has neither diffusers nor skia nor this package: they are carried.
if [ -f "$CARRIED/site.tar.xz" ]; then
  mkdir -p "$WORK/site"
  tar -xJf "$CARRIED/site.tar.xz" -C "$WORK/site"
  export PYTHONPATH="$PWD/src:$WORK/site"
  # The machine's own libraries come first; the carried ones serve where it has none.
  "$PYTHON" -c 'import skia' 2>/dev/null || export LD_LIBRARY_PATH="$WORK/site/lib:${LD_LIBRARY_PATH:-}"
fi
"$PYTHON" -c 'import skia, diffusers, torch; print("torch", torch.__version__, "cuda", torch.cuda.is_available())'

# Begin with what the command before handed on, if there is any.
START=()
if compgen -G "$CARRIED/handed/model.tar.*" >/dev/null; then
  mkdir -p "$WORK/handed"
  cat "$CARRIED"/handed/model.tar.* | tar -x -C "$WORK/handed"
  START=(--start "$WORK/handed")
fi

# stage NAME MINUTES SAMPLES DRAWING_MINUTES [more options]: train one stage, then hand on everything so far.
stage() {
  local name=$1 minutes=$2 samples=$3 drawing=$4
  shift 4
  echo "== $name: $minutes min on up to $samples samples, drawn in at most $drawing min ($(date +%T))"
  "$PYTHON" -m anystory train "$name" --recipe "$RECIPE" --out "$WORK/run" "${START[@]}" --minutes "$minutes" \
    --prerender "$samples" --prerender-minutes "$drawing" --prerender-first "${FIRST:-0}" --threads "$THREADS" "$@"
  START=()  # the run folder holds the weights now
  "$PYTHON" scripts/gpu/handover.py "$WORK/run" "$OUT"
  echo "== $name done ($(date +%T))"
}
