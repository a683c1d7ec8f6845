"""Readers: one module for each label format, all of which return `Annotations`."""
