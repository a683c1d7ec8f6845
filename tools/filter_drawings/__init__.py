"""Owns how the filters that ship were drawn: ``python -m tools.filter_drawings.generate`` draws them again."""
