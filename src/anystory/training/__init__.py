"""Training: one loop on accelerate, six stages (`vae`, `decoder`, `clip`, `base`, `encoder`, `router`)."""
