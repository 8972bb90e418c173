"""The papers' tables and figures: protocols that are run on the user's data, beside the published figures.

`protocol` defines what a protocol is; `mvg`, `padim`, `hfr`, `vae_grf` and `fre` hold those of one paper each. `run`
measures and writes lines of JSON; `rows` makes tables from them; `differences` compares rows.
"""
