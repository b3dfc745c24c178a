"""Training: one loop on accelerate, five stages (`vae`, `clip`, `base`, `encoder`, `router`)."""
