"""The papers' tables and figures: protocols that are run on the user's data, and what was published beside.

`protocol` says what one is; `mvg`, `padim`, `hfr`, `vae_grf` and `fre` hold them, a file for each paper. `run` measures
and writes lines of JSON; `rows` makes tables of them, `differences` compares rows.
"""
