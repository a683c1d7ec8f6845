"""Metrics, the evaluator, slices, end-to-end errors, uncertainty, result rows and latency."""
