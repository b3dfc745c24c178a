#!/usr/bin/env bash
# Autoencoder and text and image encoders, from nothing or from what was handed on. At most about 7 minutes.
source "$(dirname "$0")/common.sh"
# Short stages: compiling would cost more than it gains.
stage vae "${VAE_MINUTES:-2.5}" "${VAE_SAMPLES:-200000}" "${VAE_DRAWING:-0.7}" --no-compile
stage clip "${CLIP_MINUTES:-1.5}" "${CLIP_SAMPLES:-200000}" "${CLIP_DRAWING:-1.0}" --no-compile
