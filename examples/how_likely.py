"""How likely: risks of a few prompts from 200 weighted draws each, beside the exact truth.

python examples/how_likely.py [FOLDER]
"""

import sys
from pathlib import Path

import tailbound
from tailbound.demo.exact import exact_risk
from tailbound.demo.files import default_prompts


def main(folder: Path) -> None:
    """Estimate three risks of the demo model, and compare them with the truth."""
    result = tailbound.risk(
        default_prompts(3),
        out=folder / "how-likely",
        target="demo",
        judge="demo",
        draws=200,
        progress=None,
    )
    print("exact      estimate   at least   status")
    for row in result.risks:
        truth = exact_risk(row.prompt).risk
        found = row.estimate
        print(f"{truth:.2e}   {found.risk:.2e}   {found.certified_lower:.2e}   {found.status}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs"))
