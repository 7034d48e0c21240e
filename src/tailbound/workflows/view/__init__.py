"""`view`: the report of runs, served by this machine to itself, live while a run is in progress.

run folders -> `progress` (what is on record, cheap) -> `live` (the page, kept while nothing
changes) -> `server` (one page behind one secret address)
"""
