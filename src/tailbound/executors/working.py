"""From what a user asked for to the executor of a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tailbound.core.extras import require
from tailbound.errors import UsageError
from tailbound.executors.base import executing
from tailbound.executors.options import ExecutorOptions
from tailbound.executors.processes import ProcessCarrier, environments
from tailbound.targets.registry import provider

if TYPE_CHECKING:
    from tailbound.executors.messages import Loading
    from tailbound.targets import Target


def check_executor(options: ExecutorOptions, target: str | Target) -> None:
    """Raise `UsageError` for workers that could do nothing for `target`; loads nothing."""
    if options.chosen == "local":
        return
    if not isinstance(target, str):
        raise UsageError(
            "workers load the target by its name, and this one is an object: give the name, or "
            "leave workers and executor out"
        )
    if not provider(target).white_box:
        flag = f"--workers {options.workers}" if options.workers > 1 else "--executor"
        more = ", and use --concurrency" if provider(target).served else ""
        raise UsageError(
            f"{flag} is for models that run in the workers, and {target} does not: remove it{more}"
        )
    if options.chosen == "ray":
        require("--executor ray", "ray")
    else:
        environments(options.workers)


@contextmanager
def working(
    options: ExecutorOptions, loading: Loading, *, contract: str, rows: int
) -> Iterator[None]:
    """Let the executor that `options` mean do the work of the run meanwhile.

    `contract` is the digest of that of the target, `rows` how many responses a worker samples at
    once.
    """
    if options.chosen == "local":
        yield
        return
    from tailbound.executors.pool import WorkerPool

    if options.chosen == "processes":
        found = environments(options.workers)
        with (
            WorkerPool(
                lambda number: ProcessCarrier(found[number]),
                options.workers,
                loading,
                contract=contract,
                rows=rows,
            ) as pool,
            executing(pool),
        ):
            yield
        return
    from tailbound.executors.ray import cluster

    with (
        cluster(options.address) as launch,
        WorkerPool(launch, options.workers, loading, contract=contract, rows=rows) as pool,
        executing(pool),
    ):
        yield
