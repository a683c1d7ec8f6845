"""Owns what pictures are made of: labelled faces, transforms at work, predictions, and what a first layer sees."""
