"""The returns of a simulated market before any event: a factor model with GARCH volatility and a two-state regime."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from anomaly_routing.data.simulate_events import Effects

YEAR = 252  # sessions
WARM_UP = 500  # sessions simulated and dropped, so that variances start in their stationary law
DRIFT = 0.06 / YEAR
ENTER_STRESS, LEAVE_STRESS = 1 / 90, 1 / 25  # daily chances of the two-state regime


@dataclass(frozen=True)
class Volatility:
    """A GJR-GARCH(1,1) with standardised Student-t shocks. `annual`: standard deviation in the calm regime.

    `stress`: the factor by which the stressed regime multiplies the long-run variance.
    """

    annual: float
    alpha: float
    gamma: float
    beta: float
    freedom: float
    stress: float

    @property
    def persistence(self) -> float:
        return self.alpha + self.gamma / 2 + self.beta

    def long_run(self, stressed: np.ndarray) -> np.ndarray:
        """Daily long-run variance under each regime."""
        return self.annual**2 / YEAR * np.where(stressed, self.stress, 1.0)


MARKET = Volatility(annual=0.08, alpha=0.02, gamma=0.19, beta=0.82, freedom=10, stress=11.0)
SECTOR = Volatility(annual=0.095, alpha=0.08, gamma=0.16, beta=0.80, freedom=5, stress=3.0)
STATE = Volatility(annual=0.045, alpha=0.08, gamma=0.16, beta=0.80, freedom=5, stress=3.0)
OWN = Volatility(annual=0.21, alpha=0.12, gamma=0.22, beta=0.75, freedom=3.3, stress=3.0)


def gjr_garch(shocks: np.ndarray, long_run: np.ndarray, kind: Volatility) -> tuple[np.ndarray, np.ndarray]:
    """Returns and conditional standard deviations, float64 [session, series] each, of a GJR-GARCH(1,1).

    h_t = (1 - persistence) long_run_t + (alpha + gamma 1[r_{t-1} < 0]) r_{t-1}^2 + beta h_{t-1}, r_t = sqrt(h_t) z_t,
    persistence = alpha + gamma / 2 + beta < 1, so that E h = long_run for symmetric unit-variance shocks z.

    shocks : z [session, series]. long_run : variance [session, series], or anything that broadcasts to it.
    """
    long_run = np.broadcast_to(long_run, shocks.shape)
    variance, returns = np.empty(shocks.shape), np.empty(shocks.shape)
    h = long_run[0]
    for t, z in enumerate(shocks):
        if t:
            news = (kind.alpha + kind.gamma * (returns[t - 1] < 0)) * returns[t - 1] ** 2
            h = (1 - kind.persistence) * long_run[t] + news + kind.beta * h
        variance[t], returns[t] = h, np.sqrt(h) * z
    return returns, np.sqrt(variance)


def model_vix(returns: np.ndarray, sigma: np.ndarray, stressed: np.ndarray, kind: Volatility = MARKET) -> np.ndarray:
    """Annualised volatility, in percent, that the model expects of the market factor over the next 21 sessions.

    [session]; the square root of the mean expected variance of t+1..t+21 given returns, variances and the regime up to
    t. No risk premium, so it lies below a traded index of implied volatility on average.
    """
    chance = np.where(stressed, 1.0 - LEAVE_STRESS, ENTER_STRESS)  # of stress at t+1
    expected = (kind.alpha + kind.gamma * (returns < 0)) * returns**2 + kind.beta * sigma**2
    total = np.zeros(len(returns))
    calm, stress = kind.long_run(np.array([False, True]))
    for step in range(21):
        if step:
            expected = kind.persistence * expected
        expected = expected + (1 - kind.persistence) * (calm + chance * (stress - calm))
        total += expected
        chance = ENTER_STRESS + (1.0 - LEAVE_STRESS - ENTER_STRESS) * chance
    return 100 * np.sqrt(YEAR * total / 21)


def _student(freedom: float, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Student-t shocks with variance 1."""
    return rng.standard_t(freedom, shape) * np.sqrt((freedom - 2) / freedom)


@dataclass(frozen=True)
class FactorModel:
    """The undisturbed market, [session, stock]: systematic and own returns, and their conditional variances."""

    systematic: np.ndarray
    systematic_variance: np.ndarray
    own: np.ndarray
    own_sigma: np.ndarray
    vix: np.ndarray  # [session]

    def returns(self, effects: Effects) -> np.ndarray:
        return DRIFT + self.systematic + self.own * np.exp(effects.volatility) + effects.returns

    def sigma(self, effects: Effects) -> np.ndarray:
        return np.sqrt(self.systematic_variance + (self.own_sigma * np.exp(effects.volatility)) ** 2)


def factor_model(universe: pd.DataFrame, n_sessions: int, rng: np.random.Generator) -> FactorModel:
    n, steps = len(universe), n_sessions + WARM_UP
    stressed = np.zeros(steps, bool)
    for t, u in enumerate(rng.random(steps - 1), start=1):
        stressed[t] = u >= LEAVE_STRESS if stressed[t - 1] else u < ENTER_STRESS

    def factor(kind: Volatility, size: int, scale: np.ndarray | float = 1.0) -> tuple[np.ndarray, np.ndarray]:
        long_run = scale * kind.long_run(stressed)[:, None]
        r, sigma = gjr_garch(_student(kind.freedom, (steps, size), rng), long_run, kind)
        return r[WARM_UP:], sigma[WARM_UP:]

    market, market_sigma = factor(MARKET, 1)
    sector, state = pd.factorize(universe["sector"])[0], pd.factorize(universe["hq_state"])[0]
    loadings = {"market": rng.uniform(0.6, 1.5, n), "sector": rng.uniform(0.6, 1.4, n)}
    systematic = loadings["market"] * market
    variance = (loadings["market"] * market_sigma) ** 2
    for kind, group, loading in ((SECTOR, sector, loadings["sector"]), (STATE, state, np.ones(n))):
        r, sigma = factor(kind, group.max() + 1)
        systematic = systematic + loading * r[:, group]
        variance = variance + (loading * sigma[:, group]) ** 2
    own, own_sigma = factor(OWN, n, np.exp(rng.normal(0.0, 0.45, n)))
    vix = model_vix(market[:, 0], market_sigma[:, 0], stressed[WARM_UP:])
    return FactorModel(systematic, variance, own, own_sigma, vix)


def autoregression(persistence: float, sd: float, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """AR(1) [session, series] with stationary standard deviation `sd`."""
    x = rng.standard_normal(shape) * sd
    x[1:] *= np.sqrt(1 - persistence**2)
    for t in range(1, len(x)):
        x[t] += persistence * x[t - 1]
    return x
