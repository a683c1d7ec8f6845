"""Training across several processes on JAX."""
