"""The `Predictor`, what `predict` reads and writes, and bulk labelling."""
