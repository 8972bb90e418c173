"""The same fold on many machines: what Ray runs, and how its results become those of one machine."""
