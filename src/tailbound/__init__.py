"""tailbound measures how rarely a language model misbehaves.

*When* is the first unsafe output to be expected (:mod:`tailbound.survival`), and how the draws
that answer it are made, judged and kept (:mod:`tailbound.audit`).
"""

__version__: str

__all__ = ["__version__"]


def __getattr__(name: str) -> str:
    # looked up when asked for: it takes a while, and nobody can interrupt it in one line
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version

    return version("tailbound")
