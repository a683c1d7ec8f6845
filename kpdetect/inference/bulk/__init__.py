"""Owns labelling at scale: photographs in parts, each part labelled by one worker and written whole or not at all."""
