#!/usr/bin/env bash
# Stage 2 of the adapter, on what 3-encoder.sh handed on. At most about 4 minutes.
source "$(dirname "$0")/common.sh"
stage router "${ROUTER_MINUTES:-2.0}" "${ROUTER_SAMPLES:-120000}" "${ROUTER_DRAWING:-0.7}" --no-compile
