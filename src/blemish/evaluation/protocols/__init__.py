"""The protocols by which papers compare detectors."""
