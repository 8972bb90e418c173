"""The log: every verdict with its time, model and image, in a database that may be slow or lost."""

from blemish.log.exports import csv_lines, guarded, json_lines, write_csv, write_parquet
from blemish.log.finding import Bucket, Filter, Found
from blemish.log.images import Images, Kind
from blemish.log.log import Counts, Log, open_log, read_log
from blemish.log.verdict import Feedback, Role, Verdict, new_id

__all__ = [
    "Bucket",
    "Counts",
    "Feedback",
    "Filter",
    "Found",
    "Images",
    "Kind",
    "Log",
    "Role",
    "Verdict",
    "csv_lines",
    "guarded",
    "json_lines",
    "new_id",
    "open_log",
    "read_log",
    "write_csv",
    "write_parquet",
]
