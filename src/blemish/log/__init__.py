"""The log: every verdict with its time, model and image, in a database that may be slow or lost."""

from blemish.log.log import Counts, Filter, Found, Log, open_log
from blemish.log.verdict import Verdict, new_id

__all__ = ["Counts", "Filter", "Found", "Log", "Verdict", "new_id", "open_log"]
