"""`tailbound bound --method importance`: bounds beyond the budget, from weighted draws."""
