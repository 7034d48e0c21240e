"""Networks and boosted trees on top of ridge, and the choice among them."""

from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from scipy.special import expit
from sklearn.tree import DecisionTreeRegressor

import tailbound
from sizes import size
from tailbound.cli.render.bound import bound
from tailbound.demo.files import default_prompts
from tailbound.errors import LedgerError, MissingExtraError, UsageError
from tailbound.predictors import FittedPredictor, HeadScore, comparison, fit
from tailbound.predictors.arrays import load_arrays, save_arrays
from tailbound.predictors.boosting import RATE, BoostedTrees, Boosting
from tailbound.predictors.comparison import choose
from tailbound.predictors.likelihood import deviance, deviances, log_likelihood
from tailbound.predictors.network import Network, fit_network
from tailbound.workflows.bound.features import check_head
from tailbound.workflows.bound.importance.options import method_of

DRAWS = 300


def steps(prompts: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, risks that step at thresholds of two of them, and counts."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((prompts, 6))
    risk = expit(-7 + 3.0 * (np.abs(x[:, 0]) < 0.6) + 2.0 * (x[:, 1] > 1))
    return x, risk, rng.binomial(DRAWS, risk)


def linear(prompts: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((prompts, 6))
    risk = expit(-6 + x[:, :2] @ [1.2, 0.8])
    return x, risk, rng.binomial(DRAWS, risk)


def trees_of(forest: list[DecisionTreeRegressor]) -> BoostedTrees:
    held = [tree.tree_ for tree in forest]
    sizes = [one.node_count for one in held]
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
    moved = {
        name: np.concatenate(
            [
                np.where(getattr(one, name) < 0, -1, getattr(one, name) + start)
                for one, start in zip(held, starts, strict=True)
            ]
        )
        for name in ("children_left", "children_right")
    }
    return BoostedTrees(
        starts=starts,
        left=moved["children_left"],
        right=moved["children_right"],
        feature=np.concatenate([one.feature for one in held]),
        threshold=np.concatenate([one.threshold for one in held]),
        value=np.concatenate([one.value[:, 0, 0] for one in held]),
    )


def test_trees_are_evaluated_as_scikit_learn_does() -> None:
    """Exactly, also at thresholds, which it compares in float32, and for a tree of one leaf."""
    rng = np.random.default_rng(0)
    x = np.round(rng.standard_normal((400, 5)), 1)
    forest = [
        DecisionTreeRegressor(max_depth=depth, random_state=0).fit(x, rng.standard_normal(400))
        for depth in (1, 4, 9)
    ]
    forest.append(DecisionTreeRegressor().fit(x, np.ones(400)))
    new = np.concatenate([x, rng.standard_normal((9000, 5)), x + 1e-9])
    for tree in forest:
        np.testing.assert_array_equal(trees_of([tree])(new), tree.predict(new))
    expected = np.sum([tree.predict(new) for tree in forest], axis=0)
    np.testing.assert_allclose(trees_of(forest)(new), expected, rtol=0, atol=1e-12)


def test_a_tree_moves_its_leaves_towards_the_observed_rates() -> None:
    z = np.repeat([[0.0], [1.0]], 20, axis=0)
    events, draws = np.repeat([1.0, 9.0], 20), np.full(40, 100.0)
    boosting = Boosting(z, np.full(40, np.log(0.05 / 0.95)), events, draws)
    tree = boosting.grow()
    moves = tree(np.array([[0.0], [1.0]]))
    exact = [np.log((k + 1) / 101) - np.log((2001 - k) / 1901) for k in (20, 180)]
    np.testing.assert_allclose(moves, RATE * np.array(exact))
    for _ in range(99):
        boosting.grow()
    np.testing.assert_allclose(expit(boosting.log_odds[[0, -1]]), [0.01, 0.09], rtol=0.1)
    np.testing.assert_allclose(
        boosting.trees()(z) + np.log(0.05 / 0.95), boosting.log_odds, atol=1e-12
    )


def test_a_network_is_a_stationary_point_of_its_loss() -> None:
    rng = np.random.default_rng(1)
    z = rng.standard_normal((150, 2))
    events = rng.binomial(50, expit(-2 + 1.5 * np.sign(z[:, 0] * z[:, 1]))).astype(float)
    draws, offset = np.full(150, 50.0), np.full(150, -2.0)
    from tailbound.predictors import network as module

    one = module._fit_one(z, offset, events, draws, 1.0, 0)

    def loss(into: np.ndarray, shift: np.ndarray, out: np.ndarray, bias: float) -> float:
        size = np.square(into).sum() + np.square(shift).sum() + np.square(out).sum()
        eta = offset + Network(into, shift, out, bias)(z)
        return 0.5 * size - log_likelihood(eta, events, draws)

    at = loss(one.into, one.shift, one.out, one.bias)
    for _ in range(20):
        sizes = [1e-2 * rng.standard_normal(v.shape) for v in (one.into, one.shift, one.out)]
        there = loss(one.into + sizes[0], one.shift + sizes[1], one.out + sizes[2], one.bias)
        assert there > at - 0.05
    assert at < loss(one.into * 0, one.shift * 0, one.out * 0, 0.0) - 20


def test_a_large_penalty_leaves_the_ridge_fit_alone() -> None:
    z = np.random.default_rng(0).standard_normal((80, 3))
    found = fit_network(z, np.full(80, -3.0), np.full(80, 5.0), np.full(80, 100.0), 1e6)
    assert np.ptp(found(z)) < 1e-6


def test_the_deviance_is_the_sum_over_prompts() -> None:
    rng = np.random.default_rng(0)
    n = rng.integers(0, 20, 50).astype(float)
    k = np.floor(n * rng.random(50))
    eta = rng.normal(0, 3, 50)
    assert deviances(eta, k, n).sum() == pytest.approx(deviance(eta, k, n))
    assert (deviances(eta, k, n) >= -1e-9).all()


def test_trees_are_chosen_where_risks_step() -> None:
    x, risk, k = steps(600, 0)
    fits = {
        head: fit(x[:300], k[:300], np.full(300, DRAWS), head=head, rng=0)  # type: ignore[arg-type]
        for head in comparison.HEADS
    }
    report = fits["auto"].report
    assert report.head == "boosting"
    assert [one.name for one in report.heads] == ["ridge", "mlp", "boosting"]
    np.testing.assert_array_equal(fits["auto"].predict(x), fits["boosting"].predict(x))
    error = {
        head: np.sqrt(np.square(np.log(found.predict(x[300:]) / risk[300:])).mean())
        for head, found in fits.items()
    }
    assert error["boosting"] < 0.8 * error["ridge"]
    assert error["mlp"] < error["ridge"]
    best = {one.name: one.deviance for one in report.heads}
    assert report.deviance == best["boosting"]
    assert report.deviance == pytest.approx(fits["boosting"].report.deviance)
    assert fits["mlp"].report.choice == "mlp was asked for"


def test_where_ridge_is_chosen_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "ONE_NAT", 1e9)
    x, _, k = linear(100, 2)
    plain = fit(x, k, np.full(100, DRAWS), rng=0)
    auto = fit(x, k, np.full(100, DRAWS), head="auto", rng=0)
    assert auto.report.head == "ridge"
    assert auto.report.choice.startswith("no other head is better")
    assert auto.correction is None
    np.testing.assert_array_equal(auto.predict(x), plain.predict(x))
    np.testing.assert_array_equal(auto.out_of_fold, plain.out_of_fold)
    few = fit(x[:50], k[:50], np.full(50, DRAWS), head="auto", rng=0).report
    assert few.choice.startswith("too few training prompts")
    assert len(few.heads) == 1


def test_another_head_must_win_by_two_standard_errors_and_a_nat() -> None:
    def score(name: str, gain: float, error: float) -> HeadScore:
        return HeadScore(
            name=name, deviance=100 - gain, difference=-gain, standard_error=error, setting=""
        )

    ridge = score("ridge", 0.0, 0.0)
    assert choose([ridge, score("mlp", 9.0, 5.0)])[0] == "ridge"
    assert choose([ridge, score("mlp", 1.9, 0.1)])[0] == "ridge"
    assert choose([ridge, score("mlp", 11.0, 5.0), score("boosting", 10.5, 5.0)])[0] == "mlp"
    assert choose([ridge, score("mlp", 30.0, 20.0), score("boosting", 9.0, 4.0)])[0] == "boosting"


def test_groups_are_the_units_of_the_standard_error() -> None:
    """Each prompt four times over says no more than once."""
    x, _, k = steps(120, 3)
    groups = [f"g{i}" for i in range(120)]
    many = np.tile(np.arange(120), 4)
    names = [groups[i] for i in many]
    report = fit(x[many], k[many], np.full(480, DRAWS), head="boosting", groups=names, rng=0).report
    alone = fit(x[many], k[many], np.full(480, DRAWS), head="boosting", rng=0).report
    within, across = (
        float(one.standard_error or 0.0) / abs(float(one.difference or 0.0))
        for one in (report.heads[-1], alone.heads[-1])
    )
    assert within > 1.5 * across


def test_without_scikit_learn_trees_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    x, _, k = steps(80, 1)
    monkeypatch.setattr(comparison, "find_spec", lambda name: None)
    heads = fit(x, k, np.full(80, DRAWS), head="auto", rng=0).report.heads
    assert heads[-1].deviance is None
    assert heads[-1].setting == "not compared: scikit-learn is not installed (extra tfidf)"
    monkeypatch.setattr("tailbound.core.extras.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="tfidf"):
        fit(x, k, np.full(80, DRAWS), head="boosting", rng=0)
    with pytest.raises(UsageError, match="head must be one of auto, ridge, mlp, boosting"):
        fit(x, k, np.full(80, DRAWS), head="forest", rng=0)  # type: ignore[arg-type]


@pytest.mark.parametrize("head", ["mlp", "boosting"])
def test_saved_and_loaded_a_head_is_the_same(tmp_path: Path, head: str) -> None:
    x, _, k = steps(60, 4)
    fitted = fit(x, k, np.full(60, DRAWS), head=head, rng=0)  # type: ignore[arg-type]
    again = fit(x, k, np.full(60, DRAWS), head=head, rng=0)  # type: ignore[arg-type]
    assert fitted.report.head == head
    fitted.save(tmp_path / "predictor.npz")
    loaded = FittedPredictor.load(tmp_path / "predictor.npz")
    assert loaded.report == fitted.report
    for other in (loaded, again):
        np.testing.assert_array_equal(other.predict(x), fitted.predict(x))
        np.testing.assert_array_equal(other.out_of_fold, fitted.out_of_fold)


def test_without_events_every_head_gives_the_pooled_rate() -> None:
    x = np.random.default_rng(0).standard_normal((80, 4))
    for head in ("mlp", "boosting"):
        fitted = fit(x, np.zeros(80), np.full(80, 100), head=head, rng=0)  # type: ignore[arg-type]
        assert fitted.report.head == "ridge"
        np.testing.assert_allclose(fitted.predict(x), 0.5 / 8001)


@pytest.fixture(scope="module")
def fitted() -> dict[str, FittedPredictor]:
    """A predictor with each head."""
    x, _, k = steps(60, 5)
    return {
        head: fit(x, k, np.full(60, DRAWS), head=head, rng=0)  # type: ignore[arg-type]
        for head in ("mlp", "boosting")
    }


def edited(path: Path, **changes: object) -> None:
    """The saved predictor with arrays changed by functions of them, or left out (None)."""
    document, arrays = load_arrays(path, 3, "a predictor")
    for name, change in changes.items():
        if change is None:
            del arrays[name]
        else:
            arrays[name] = change(arrays[name].copy())  # type: ignore[operator]
    save_arrays(path, document, **arrays)


def put(place: int, value: float):  # type: ignore[no-untyped-def]
    def change(values: np.ndarray) -> np.ndarray:
        values.ravel()[place] = value
        return values

    return change


@pytest.mark.parametrize(
    ("head", "changes", "message"),
    [
        ("boosting", {"left": put(1, 0)}, "a tree that leaves its nodes or leads back"),
        ("boosting", {"right": put(0, 0)}, "a tree that leaves its nodes or leads back"),
        ("boosting", {"right": put(0, 10**6)}, "a tree that leaves its nodes or leads back"),
        ("boosting", {"left": put(0, -1)}, "a node of a tree with one child"),
        ("boosting", {"left": put(0, -7)}, "a tree that leaves its nodes or leads back"),
        ("boosting", {"feature": put(0, 99)}, "a coordinate which does not exist"),
        ("boosting", {"threshold": put(0, np.nan)}, "numbers that are not finite"),
        ("boosting", {"value": put(2, np.inf)}, "numbers that are not finite"),
        ("boosting", {"starts": put(0, 1)}, "roots are out of order"),
        ("boosting", {"starts": lambda v: v[::-1]}, "roots are out of order"),
        ("boosting", {"value": lambda v: v[:-1]}, "trees with value for"),
        ("boosting", {"left": lambda v: v.astype(float)}, "trees with left of type float64"),
        ("boosting", {"left": None}, "KeyError"),
        ("boosting", {"rotation": lambda v: v[:, :1]}, "a coordinate which does not exist"),
        ("mlp", {"into": put(0, np.nan)}, "not finite numbers"),
        ("mlp", {"into": lambda v: v.T}, "a network of shapes"),
        ("mlp", {"out": lambda v: v[1:]}, "a network of shapes"),
        ("mlp", {"rotation": lambda v: v[1:]}, "a rotation of another dimension"),
        ("mlp", {"weights": put(0, np.inf)}, "weights is not 1 dimensions of finite numbers"),
        ("mlp", {"held_out": put(0, 2.0)}, "no probabilities"),
        ("mlp", {"log_odds": lambda v: v[::-1]}, "a recalibration"),
    ],
)
def test_what_is_read_is_checked(
    tmp_path: Path,
    fitted: dict[str, FittedPredictor],
    head: str,
    changes: dict[str, object],
    message: str,
) -> None:
    path = tmp_path / "predictor.npz"
    fitted[head].save(path)
    edited(path, **changes)
    with pytest.raises(LedgerError, match=message):
        FittedPredictor.load(path)


def test_a_chain_of_nodes_ends() -> None:
    nodes = 2001
    left = np.r_[np.arange(1, nodes - 1, 2), np.array([], dtype=np.int64)]
    children = np.full(nodes, -1)
    children[: nodes - 1 : 2] = left
    right = np.full(nodes, -1)
    right[: nodes - 1 : 2] = left + 1
    arrays = {
        "starts": np.zeros(1, dtype=np.int64),
        "left": children.astype(np.int64),
        "right": right.astype(np.int64),
        "feature": np.zeros(nodes, dtype=np.int64),
        "threshold": np.zeros(nodes),
        "value": np.zeros(nodes),
    }
    with pytest.raises(ValueError, match="a tree of more than 32 levels"):
        BoostedTrees.from_arrays(arrays, 1)


@pytest.mark.slow
def test_the_choice_costs_little_where_ridge_is_right_and_gains_where_it_is_not() -> None:
    """Worlds of each kind, 20 at full size, where the means of the ratios pass by a wide margin.

    A choice by deviance in sample would fail the first: trees then win in every world.
    """
    ratios: dict[str, list[float]] = {"linear": [], "steps": []}
    for name, world in (("linear", linear), ("steps", steps)):
        for seed in range(size(6, 20)):
            x, risk, k = world(700, 100 + seed)
            errors = []
            for head in ("auto", "ridge"):
                found = fit(x[:200], k[:200], np.full(200, DRAWS), head=head, rng=seed)  # type: ignore[arg-type]
                error = np.log(found.predict(x[200:]) / risk[200:])
                errors.append(np.sqrt(np.square(error).mean()))
            ratios[name].append(errors[0] / errors[1])
    assert np.mean(ratios["linear"]) < 1.15
    assert np.mean(ratios["steps"]) < 0.8


def test_a_head_that_does_not_go_with_the_rest_is_refused() -> None:
    with pytest.raises(UsageError, match=r"the prompts bring p_hat, .*remove --head"):
        check_head("mlp", supplied=True)
    check_head("auto", supplied=True)
    with pytest.raises(UsageError, match="--head does not go with --method importance"):
        method_of({"method": "importance", "head": "mlp"})


def test_the_panel_names_another_head_than_ridge(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bound by trees: the panel, `bound.json`, `predict` and `verify`."""
    prompts = default_prompts(80)
    folder = tmp_path / "run"
    result = tailbound.bound(
        prompts,
        out=folder,
        budget=5,
        train_draws=60,
        test_draws=2,
        split=(0.5, 0.4, 0.1),
        head="boosting",
        progress=None,
    )
    assert result.predictor is not None
    asked = result.predictor["head"]
    assert result.made_with["head"] == "boosting"
    bound(result, subject="demo", out=Console(width=300))
    assert ("boosting was asked for" in capsys.readouterr().out) == (asked == "boosting")
    assert FittedPredictor.load(folder / "predictor.npz").report.head == asked
    assert tailbound.verify(folder, progress=None).matches


def test_trees_read_a_single_coordinate() -> None:
    """Leaves have no coordinate: theirs is never looked up, whatever the file says of it."""
    rng = np.random.default_rng(0)
    z = rng.standard_normal((100, 1))
    events = rng.binomial(50, np.where(z[:, 0] > 0, 0.4, 0.1)).astype(float)
    boosting = Boosting(z, np.full(100, -1.5), events, np.full(100, 50.0))
    moved = boosting.grow()(z)
    assert moved[z[:, 0] > 0].mean() > moved[z[:, 0] <= 0].mean()
    arrays = boosting.trees().arrays()
    far = np.where(arrays["left"] < 0, 10**9, arrays["feature"])
    read = BoostedTrees.from_arrays({**arrays, "feature": far}, 1)
    assert (read(z) == moved).all()
