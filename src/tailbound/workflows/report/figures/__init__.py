"""Figures: charts as plain values, and their drawing as SVG."""
