"""The drawings of the packaged filters; ``python -m tools.filter_drawings.generate`` makes them."""
