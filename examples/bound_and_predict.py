"""When: a bound for prompts that are never sampled, on the demo model.

    python examples/bound_and_predict.py [FOLDER]

A tiny budget, so that it takes seconds; the bounds are short for that reason.
"""

import sys
from pathlib import Path

import tailbound
from tailbound.demo.files import default_prompts


def main(folder: Path) -> None:
    """Calibrate on 80 prompts, then predict for prompts that no draw was made of."""
    prompts = default_prompts(85)
    known, new = prompts[:80], prompts[80:]
    result = tailbound.bound(
        known,
        out=folder / "when",
        target="demo",
        judge="demo",
        budget=10,
        train_draws=50,
        test_draws=20,
        progress=None,
    )
    print(result.bound.statement)
    print(f"limited by {result.bound.limited_by}; median bound {result.median_bound:g}")
    for one in tailbound.predict(folder / "when", new):
        safe = one.lower_bound - 1
        print(f"{one.id}: safe for the first {safe} generations (p_hat {one.p_hat:.1e})")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs"))
