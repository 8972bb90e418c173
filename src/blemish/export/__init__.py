"""One graph of a model for another runtime, checked before it is called good."""
