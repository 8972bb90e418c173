"""The service: verdicts over HTTP from one worker process, models that are swapped while it runs, a log and a page."""
