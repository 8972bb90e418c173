"""The log: every verdict with its time, model and image, in a database that may be slow or lost."""

from blemish.log.finding import Bucket, Filter, Found
from blemish.log.log import Counts, Log, open_log
from blemish.log.verdict import Feedback, Role, Verdict, new_id

__all__ = ["Bucket", "Counts", "Feedback", "Filter", "Found", "Log", "Role", "Verdict", "new_id", "open_log"]
