"""Owns how the filters that ship were drawn: ``python -m kpdetect.filters.drawings.generate`` draws them again."""
