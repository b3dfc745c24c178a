"""What subjects cost on FLUX.2 klein."""
