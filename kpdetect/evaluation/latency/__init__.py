"""Model files, and the models of others, timed in turns, each in a process of its own."""
