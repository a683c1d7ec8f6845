"""Owns pixels outside TensorFlow: decoding a photograph by its content, and cutting antialiased crops out of it."""
