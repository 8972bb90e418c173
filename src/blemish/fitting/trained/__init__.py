"""The training of detectors with networks: what they are trained on, and how they are judged."""
