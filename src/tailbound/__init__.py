"""tailbound measures how rarely a language model misbehaves.

*When* is the first unsafe output to be expected (:mod:`tailbound.survival`), and how the draws
that answer it are made, judged and kept (:mod:`tailbound.audit`).
"""

from importlib.metadata import version

__version__ = version("tailbound")

__all__ = ["__version__"]
