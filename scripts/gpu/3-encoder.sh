#!/usr/bin/env bash
# Stage 1 of the adapter, on what 2-base.sh handed on. At most about 7 minutes.
source "$(dirname "$0")/common.sh"
# Its blocks meet about 39 shapes: compiling all of them would take a good part of the budget.
stage encoder "${ENCODER_MINUTES:-4.5}" "${ENCODER_SAMPLES:-300000}" "${ENCODER_DRAWING:-1.5}" --no-compile
