"""A target, a judge, a source of features and a proposal for tailbound, as an example."""
