"""Training across several processes."""
