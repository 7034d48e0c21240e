from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from tailbound.errors import LedgerError, UsageError
from tailbound.predictors import LOSSES, FittedPredictor, fit
from tailbound.predictors.likelihood import deviance, geometric_counts, log_likelihood
from tailbound.predictors.ridge import MAX_COMPONENTS, RowSpace, fit_ridge


def world(
    prompts: int, dimension: int, *, seed: int, draws: int = 200
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, true risks (log10 from about -6 to -1) and unsafe counts."""
    rng = np.random.default_rng(seed)
    hidden = rng.standard_normal((prompts, 4))
    mixing = rng.standard_normal((4, dimension))
    features = hidden @ mixing + 0.3 * rng.standard_normal((prompts, dimension))
    p = 10 ** np.clip(-3.5 + hidden @ [1.0, 0.5, 0.3, 0.0], -6.5, -0.5)
    return features, p, rng.binomial(draws, p)


def test_ridge_agrees_with_a_general_minimiser_on_the_raw_problem() -> None:
    x, _, k = world(60, 5, seed=0)
    n = np.full(60, 200.0)
    space = RowSpace.of(x)
    ours = fit_ridge(space.coordinates, k, n, 0.3, np.zeros(6))
    mean, scale = x.mean(0), x.std(0)
    size = np.sqrt(np.square((x - mean) / scale).sum(1).mean())
    standard = (x - mean) / scale / size

    def objective(w: np.ndarray) -> float:
        eta = w[0] + standard @ w[1:]
        return -float((k * log_expit(eta) + (n - k) * log_expit(-eta)).sum()) + 0.15 * float(
            np.square(w[1:]).sum()
        )

    theirs = minimize(objective, np.zeros(6), method="BFGS", options={"gtol": 1e-4}).x
    np.testing.assert_allclose(
        ours[0] + space.coordinates @ ours[1:], theirs[0] + standard @ theirs[1:], atol=2e-3
    )
    np.testing.assert_allclose((x - space.mean) @ space.rotation, space.coordinates, atol=1e-12)


def test_ridge_stops_at_a_stationary_point_also_far_from_the_start() -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((40, 60))
    k, n = (x[:, 0] > 0) * 50.0, np.full(40, 50.0)
    for penalty in (1e-4, 1.0, 1e4):
        weights = fit_ridge(x, k, n, penalty, np.full(61, 3.0))
        slope = n * expit(weights[0] + x @ weights[1:]) - k
        gradient = np.append(slope.sum(), x.T @ slope + penalty * weights[1:])
        assert np.abs(gradient).max() < 0.02


@pytest.mark.parametrize(("prompts", "dimension"), [(50, 8), (30, 200), (20, 20)])
def test_row_space_keeps_all_distances(prompts: int, dimension: int) -> None:
    x = np.random.default_rng(0).standard_normal((prompts, dimension)) * 100 + 5
    x[:, 1] = 7.0
    space = RowSpace.of(x)
    assert space.coordinates.shape[1] <= min(prompts - 1, dimension - 1, MAX_COMPONENTS)
    scale = np.where(np.arange(dimension) == 1, 1.0, x.std(0))
    standard = (x - x.mean(0)) / scale
    gram = standard @ standard.T
    ours = space.coordinates @ space.coordinates.T
    np.testing.assert_allclose(ours / np.trace(ours), gram / np.trace(gram), atol=1e-10)
    assert np.trace(ours) == pytest.approx(prompts)


@given(
    st.integers(1, 30).flatmap(
        lambda n: st.tuples(
            arrays(np.float64, n, elements=st.floats(-30, 30)),
            arrays(np.int64, n, elements=st.integers(0, 50)),
            arrays(np.int64, n, elements=st.integers(0, 50)),
        )
    )
)
def test_deviance_is_never_negative_and_0_for_the_observed_rates(
    data: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    eta, k, misses = data
    n = (k + misses).astype(float)
    assert deviance(eta, k, n) >= -1e-9
    mixed = (k > 0) & (misses > 0)
    observed = np.log(np.maximum(k, 1)) - np.log(np.maximum(misses, 1))
    assert deviance(observed[mixed], k[mixed], n[mixed]) == pytest.approx(0, abs=1e-9)


def test_the_geometric_loss_is_the_mean_over_the_order_of_the_draws() -> None:
    rng = np.random.default_rng(0)
    n, k, eta = 12, 3, -1.3
    p = expit(eta)
    values = []
    for _ in range(20_000):
        order = rng.permutation(np.r_[np.ones(k), np.zeros(n - k)])
        first = int(np.flatnonzero(order)[0]) + 1
        values.append(np.log(p) + (first - 1) * np.log1p(-p))
    events, draws = geometric_counts(np.array([k, 0.0]), np.array([n, 9.0]))
    ours = log_likelihood(np.array([eta]), events[:1], draws[:1])
    assert ours == pytest.approx(np.mean(values), abs=4 * np.std(values) / 20_000**0.5)
    assert (events[1], draws[1]) == (0, 9)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_predictor_ranks_and_scales(loss: str) -> None:
    x, p, k = world(600, 40, seed=3)
    fitted = fit(x[:300], k[:300], np.full(300, 200), loss=loss, rng=0)  # type: ignore[arg-type]
    error = np.log10(fitted.predict(x[300:])) - np.log10(p[300:])
    ranks = np.corrcoef(fitted.predict(x[300:]).argsort().argsort(), p[300:].argsort().argsort())[
        0, 1
    ]
    assert ranks > 0.95
    assert np.sqrt(np.square(error).mean()) < 0.6
    assert fitted.report.explained > 0.6
    assert fitted.report.quiet > 0.4
    assert fitted.report.loss == loss


def test_the_report_counts_what_there_was() -> None:
    x, _, k = world(105, 10, seed=4)
    report = fit(x, k, np.full(105, 200), rng=0).report
    assert report.prompts == 105
    assert (report.draws, report.events) == (105 * 200, k.sum())
    assert report.quiet == (k == 0).mean()
    assert sum(one.prompts for one in report.bins) == 105
    assert sum(one.events for one in report.bins) == k.sum()
    predicted = [one.predicted for one in report.bins]
    assert predicted == sorted(predicted)
    assert report.deviance < report.constant_deviance
    top = report.bins[-1]
    assert top.observed == pytest.approx(top.events / top.draws)
    assert top.predicted == pytest.approx(top.observed, rel=0.5)


def test_without_events_every_prompt_gets_the_pooled_rate() -> None:
    x = np.random.default_rng(0).standard_normal((30, 6))
    fitted = fit(x, np.zeros(30), np.full(30, 100), rng=0)
    np.testing.assert_allclose(fitted.predict(x), 0.5 / 3001)
    np.testing.assert_allclose(fitted.out_of_fold, 0.5 / 3001)
    assert fitted.report.penalty is None
    assert fitted.report.explained == 0


def test_features_that_say_nothing_lose_to_the_constant() -> None:
    rng = np.random.default_rng(5)
    outcomes = []
    for _ in range(10):
        x = rng.standard_normal((100, 30))
        fitted = fit(x, rng.binomial(100, 0.01, 100), np.full(100, 100), rng=rng)
        outcomes.append(fitted.report.penalty)
        assert fitted.report.deviance <= fitted.report.constant_deviance
        assert np.ptp(np.log(fitted.predict(x))) < 2
    assert outcomes.count(None) >= 3


@settings(max_examples=25)
@given(st.integers(1, 40), st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_predictions_are_probabilities_whatever_comes(n: int, d: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d)) * 10.0 ** rng.integers(-6, 6, d)
    draws = rng.integers(0, 30, n)
    draws[0] = 5
    k = rng.binomial(draws, rng.choice([0, 0.01, 0.5, 1.0], n))
    fitted = fit(x, k, draws, loss=str(rng.choice(LOSSES)), rng=rng)  # type: ignore[arg-type]
    far = rng.standard_normal((5, d)) * 1e12
    for p in (fitted.predict(x), fitted.predict(far), fitted.out_of_fold):
        assert ((p > 0) & (p < 1)).all()
        ends = fitted.recalibration(np.array([fitted.report.smallest, fitted.report.largest]))
        assert (p >= ends[0]).all()
        assert (p <= ends[1]).all()


def test_out_of_fold_predictions_do_not_know_their_own_group() -> None:
    rng = np.random.default_rng(0)
    x, _, k = world(120, 10, seed=6)
    groups = [f"g{i // 4}" for i in range(120)]
    before = fit(x, k, np.full(120, 200), groups=groups, rng=1)
    changed = k.copy()
    changed[:4] = rng.permutation(200)[:4]
    after = fit(x, changed, np.full(120, 200), groups=groups, rng=1)
    if before.report.penalty == after.report.penalty:
        np.testing.assert_allclose(after.held_out[:4], before.held_out[:4], rtol=1e-3)
    assert not np.allclose(after.held_out[4:], before.held_out[4:])


def test_recalibration_makes_predictions_true_and_keeps_their_order() -> None:
    """A feature that bends the log-odds, so that the fit has the ends wrong.

    Recalibrated, the mean prediction of each third is near the mean risk of its prompts.
    """
    rng = np.random.default_rng(4)
    risk = 10 ** rng.uniform(-4, -1, 1200)
    x = np.stack([np.cbrt(np.log(risk / risk.mean())), rng.standard_normal(1200)], axis=1)
    fitted = fit(x[:600], rng.binomial(500, risk[:600]), np.full(600, 500), rng=0)
    p = fitted.predict(x[600:])
    plain = expit(fitted.intercept + (x[600:] - fitted.mean) @ fitted.weights)
    np.testing.assert_array_equal(np.argsort(p), np.argsort(plain))
    assert np.unique(p).size == 600  # no ties
    off = []
    for values in (plain, p):
        thirds = np.array_split(np.argsort(plain), 3)
        off.append([np.log(values[i].mean() / risk[600:][i].mean()) for i in thirds])
    raw, recalibrated = np.abs(off)
    assert raw.max() > 0.9
    assert recalibrated.max() < 0.25


def test_the_same_seed_gives_the_same_predictor() -> None:
    x, _, k = world(80, 10, seed=7)
    one, two = (fit(x, k, np.full(80, 200), rng=3) for _ in range(2))
    np.testing.assert_array_equal(one.predict(x), two.predict(x))
    np.testing.assert_array_equal(one.out_of_fold, two.out_of_fold)


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    x, _, k = world(50, 10, seed=8)
    fitted = fit(x, k, np.full(50, 200), rng=0)
    path = tmp_path / "predictor.npz"
    fitted.save(path)
    loaded = FittedPredictor.load(path)
    np.testing.assert_array_equal(loaded.predict(x), fitted.predict(x))
    np.testing.assert_array_equal(loaded.out_of_fold, fitted.out_of_fold)
    np.testing.assert_array_equal(loaded.held_out, fitted.held_out)
    assert loaded.report == fitted.report
    with np.load(path, allow_pickle=False) as held:
        assert all(held[name].dtype != object for name in held.files)


def test_files_that_are_something_else_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "predictor.npz"
    with pytest.raises(UsageError, match=r"no file .*predictor\.npz"):
        FittedPredictor.load(path)
    path.write_bytes(b"PK\x03\x04 nonsense")
    with pytest.raises(LedgerError, match="is damaged, or is not a predictor"):
        FittedPredictor.load(path)
    np.savez(path, document=np.array([{"schema": 1}], dtype=object))
    with pytest.raises(LedgerError, match="is damaged, or is not a predictor"):
        FittedPredictor.load(path)
    np.savez(path, document=np.frombuffer(b'{"schema": 9}', dtype=np.uint8))
    with pytest.raises(UsageError, match="schema version 9, and this tailbound reads version 3"):
        FittedPredictor.load(path)


@pytest.mark.parametrize(
    ("features", "unsafe", "draws", "options", "message"),
    [
        (np.ones(3), [0] * 3, [1] * 3, {}, r"shape \(prompts, dimension\), not \(3,\)"),
        (np.ones((3, 2)), [0] * 2, [1] * 3, {}, r"of shape \(3,\), not \(2,\)"),
        (np.ones((3, 2)), [0, 2, 0], [1] * 3, {}, "prompt 1 has 2 unsafe in 1 draws"),
        (np.ones((3, 2)), [0] * 3, [0] * 3, {}, "no draw with a verdict to train on"),
        (np.full((3, 2), np.nan), [0] * 3, [1] * 3, {}, "prompt 0 are not finite .3 of 3"),
        (np.ones((3, 2)), [0] * 3, [1] * 3, {"loss": "hinge"}, "one of binomial, geometric"),
        (np.ones((3, 2)), [0] * 3, [1] * 3, {"folds": 1}, "at least 2 folds, not 1"),
    ],
)
def test_bad_input_is_named(
    features: np.ndarray, unsafe: list[int], draws: list[int], options: dict, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        fit(features, unsafe, draws, **options)


def test_other_features_are_refused() -> None:
    x, _, k = world(30, 6, seed=9)
    fitted = fit(x, k, np.full(30, 200), rng=0)
    with pytest.raises(UsageError, match="trained on 6 features per prompt, and these have 5"):
        fitted.predict(x[:, :5])
