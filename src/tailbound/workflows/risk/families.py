"""From what was asked for to the proposals that draw, and the variants that speak in them."""

from __future__ import annotations

from dataclasses import replace

from tailbound.importance_sampling import MixSwitch, make_ladder
from tailbound.targets.capabilities import Variant
from tailbound.workflows.risk.proposal_mixture import HEATED, Family, learned_rungs
from tailbound.workflows.risk.proposals.base import Proposals
from tailbound.workflows.risk.settings import RiskSettings


def make_family(
    proposal: Proposals, settings: RiskSettings, main: MixSwitch | None
) -> tuple[Family, dict[str, Variant]]:
    """The family of `settings`, and the variants that an engine must have, in their order.

    `main` is the setting of `mix-switch`, None for other families. The heated variant, which is the
    engine's own, comes last in the family and is not among the variants.
    """
    longest = proposal.target.contract.max_new_tokens
    main_variant = ""
    variants = proposal.variants(settings.intensities)
    in_ladder = list(variants)
    if settings.family != "ladder":
        level = max(settings.intensities) if main is None else main.intensity
        alone = replace(proposal, parts=(proposal.parts[0],)).variants((level,))
        (main_variant,) = alone
        variants = {**variants, **({} if main_variant in variants else alone)}
        main = main or MixSwitch(level, 1.0, longest)
    explorers = [HEATED] if proposal.explore else []
    ladder = make_ladder(longest, variants=in_ladder, explorers=explorers)
    if proposal.explore and settings.family == "ladder":
        ladder = ladder.with_rungs(learned_rungs(longest, adapter=proposal.learn))
    family = Family(
        name=settings.family,
        ladder=ladder,
        main=main,
        main_variant=main_variant,
        variants={name: n for n, name in enumerate([*variants, *explorers], start=1)},
    )
    return family, variants
