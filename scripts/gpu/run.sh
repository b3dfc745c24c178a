#!/usr/bin/env bash
# run.sh begin | watch SECONDS | end : one training run. `begin` starts it in the background and returns; `watch` says how it goes; `end` waits for
# its end, then leaves the model and the logs in OUT. Several short commands or one long one: the training does not notice.
#
# Settings, all with a default that fits a machine with one large GPU; rehearse.sh changes them for a CPU:
#   OUT       folder for the results of `end`
#   CARRIED   folder that prepare.sh made: site.tar.xz, and handed/model.tar.* or model.tar.xz of weights to begin with
#   WORK      scratch folder; SETS scratch folder in main memory, of 70 GiB
#   MINUTES   from `begin` to the last weights
#   PLAN      whole, or more: text to image and the adapter alone, on weights that are there
#   RECIPE PYTHON SCALE
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
CARRIED=${CARRIED:-runs/gpu} WORK=${WORK:-/tmp/anystory-gpu} SETS=${SETS:-/dev/shm/anystory-gpu}
RECIPE=${RECIPE:-mini-gpu} PYTHON=${PYTHON:-python3} MINUTES=${MINUTES:-13} SCALE=${SCALE:-1} PLAN=${PLAN:-whole}
export PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 HF_HUB_DISABLE_PROGRESS_BARS=1 TRANSFORMERS_VERBOSITY=error

begin() {
  rm -rf "$WORK" "$SETS"
  mkdir -p "$WORK"/{site,handed,main,side}
  # What the machine lacks of our dependencies is carried; so is this package, from a copy that nothing changes.
  cp -r src scripts "$WORK"
  if [ -f "$CARRIED/site.tar.xz" ]; then tar -xJf "$CARRIED/site.tar.xz" -C "$WORK/site"; fi
  if compgen -G "$CARRIED/handed/model.tar.*" >/dev/null; then
    cat "$CARRIED"/handed/model.tar.* | tar -x -C "$WORK/handed"
  elif [ -f "$CARRIED/model.tar.xz" ]; then
    tar -xJf "$CARRIED/model.tar.xz" -C "$WORK/handed"
  fi
  for chain in main side; do cp -r "$WORK/handed" "$WORK/$chain/model"; done
  export PYTHONPATH="$WORK/src:$WORK/site"
  # The machine's own libraries come first; the carried ones serve where it has none.
  "$PYTHON" -c 'import skia' 2>/dev/null || export LD_LIBRARY_PATH="$WORK/site/lib:${LD_LIBRARY_PATH:-}"
  "$PYTHON" -c 'import skia, diffusers, torch; print("torch", torch.__version__, "cuda", torch.cuda.is_available())'
  export PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True
  local seconds=$((MINUTES * 60))
  start draw nice -n 5 env OMP_NUM_THREADS=1 "$PYTHON" "$WORK/scripts/gpu/draw.py" "$PLAN" "$RECIPE" "$SETS" "$SCALE"
  for chain in main side; do
    start "$chain" "$PYTHON" "$WORK/scripts/gpu/train.py" "$PLAN" "$chain" "$RECIPE" "$WORK" "$SETS" "$seconds" "$SCALE"
  done
  echo "begun: PLAN=$PLAN MINUTES=$MINUTES, logs in $WORK"
}

start() {  # NAME COMMAND…: in the background, in a session of its own
  local name=$1
  shift
  setsid bash -c '"${@:2}"; echo "exit $?" > "$1"' _ "$WORK/$name.exit" "$@" >"$WORK/$name.log" 2>&1 </dev/null &
  disown
}

watch() {
  local end=$((SECONDS + $1))
  while [ $SECONDS -lt $end ] && [ ! -e "$WORK/main.exit" ]; do sleep 1; done
  for name in draw side main; do
    echo "-- $name $(cat "$WORK/$name.exit" 2>/dev/null)"
    tail -n 20 "$WORK/$name.log" | cut -c1-250
  done
  nvidia-smi --query-gpu=name,utilization.gpu,memory.used,power.draw --format=csv,noheader 2>/dev/null || true
}

end() {
  watch 100000
  mkdir -p "${OUT:?set OUT to a folder for the results}"
  PYTHONPATH="$WORK/src:$WORK/site" "$PYTHON" scripts/gpu/handover.py "$WORK" "$OUT"
  grep -q "exit 0" "$WORK/main.exit"
}

case ${1:-} in
  begin) begin ;;
  watch) watch "${2:?seconds}" ;;
  end) end ;;
  *) echo "usage: run.sh begin | watch SECONDS | end" >&2; exit 2 ;;
esac
