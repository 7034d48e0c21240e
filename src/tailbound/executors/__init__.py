"""Where the work of a run is done: in this process, in others beside it, or on a Ray cluster.

The audit decides what is drawn and keeps the record; an executor draws, scores and judges it. Draws
are named by (seed, prompt, stream, index), so one that is drawn elsewhere, or again after a worker
has died, is the same draw.
"""

from tailbound.executors.base import LOCAL, Executor, executing, executor
from tailbound.executors.options import ExecutorOptions

__all__ = ["LOCAL", "Executor", "ExecutorOptions", "executing", "executor"]
