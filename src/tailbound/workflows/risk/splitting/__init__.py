"""Multilevel splitting as a job: `--proposal splitting`.

check     what cannot work, before anything is spent
record    the rounds of a run, in its folder
particles the repeats of one prompt on their way
job       rounds of draws, judged at their beginnings, until every repeat has ended
"""
