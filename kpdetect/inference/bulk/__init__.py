"""Labelling of very many photographs: parts, each labelled by one worker and written atomically."""
