#!/usr/bin/env bash
# Text to image, on what 1-vae-clip.sh handed on. At most about 9.5 minutes.
# To go on with it in a second command, carry its own weights and set FIRST to where the samples of the first one ended.
source "$(dirname "$0")/common.sh"
stage base "${BASE_MINUTES:-6.5}" "${BASE_SAMPLES:-1000000}" "${BASE_DRAWING:-2.0}"
