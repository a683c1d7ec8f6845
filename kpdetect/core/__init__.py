"""Errors, geometry, keypoint schemas, image reading, atomic writing, signals, packaged assets and command options."""
