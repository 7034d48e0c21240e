"""The published experiment on completions (Davidov et al., arXiv 2506.13593), on any target."""
