"""Plain binomial numbers of the draws in a run folder."""
