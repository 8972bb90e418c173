"""The service: predictions over HTTP, models that are replaced while it runs, and its page."""
