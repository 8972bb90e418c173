"""The service: verdicts over HTTP, computed by one worker process; models are swapped while it runs; a log; a page."""
