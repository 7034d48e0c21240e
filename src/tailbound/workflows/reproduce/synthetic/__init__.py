"""The published synthetic experiment on bounds (Davidov et al., arXiv 2506.13593): known risks."""
