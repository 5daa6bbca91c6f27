"""The 29 features once more, slowly: one stock, one session, one window at a time, read straight off SPEC 2.

It shares no code with the package and is what the vectorised features are checked against and timed against.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
from scipy.stats import kurtosis, norm

NAMES = [
    *("jump", "ext_z", "kurt", "mdd", "cvar95", "upvol"),
    *("spread", "amihud", "roll", "turnover", "intensity", "impact", "liq_prem", "imbalance"),
    *("mkt_corr", "sec_corr", "r2", "contagion", "dcovar", "spillover", "herding"),
    *("mom5", "mom20", "reversal", "rsi", "macd", "vp_div", "sup_res", "accel"),
]
NAN = float("nan")


class Oracle:
    """All the tables as nested lists [session][stock]; None where a stock has no row or no trade."""

    def __init__(self, prices: pd.DataFrame, universe: pd.DataFrame) -> None:
        self.tickers = list(universe["ticker"])
        self.sector = list(universe["sector"])
        self.days = sorted(set(prices["date"]))
        self.N, self.S = len(self.tickers), len(self.days)
        self.row: list[list[dict | None]] = [[None] * self.N for _ in self.days]
        where = {d: i for i, d in enumerate(self.days)}
        column = {t: i for i, t in enumerate(self.tickers)}
        for rec in prices.to_dict("records"):
            if rec["volume"] > 0:
                f = rec["adj_close"] / rec["close"]
                self.row[where[rec["date"]]][column[rec["ticker"]]] = {
                    "C": rec["adj_close"], "H": rec["high"] * f, "L": rec["low"] * f,
                    "p": math.log(rec["adj_close"]), "V": rec["volume"], "DV": rec["close"] * rec["volume"],
                }  # fmt: skip
        self.p = [[None] * self.N for _ in self.days]
        self.r = [[None] * self.N for _ in self.days]
        for t in range(self.S):
            for i in range(self.N):
                now = self.row[t][i]
                before = self.p[t - 1][i] if t else None
                self.p[t][i] = now["p"] if now else before
                if now and before is not None:
                    self.r[t][i] = now["p"] - before
        self.m = [[self.mean_of_others(t, i, range(self.N)) for i in range(self.N)] for t in range(self.S)]
        self.s = [[self.sector_mean(t, i) for i in range(self.N)] for t in range(self.S)]
        self.dln = [self.illiquidity_change(t) for t in range(self.S)]

    def mean_of_others(self, t, i, members):
        others = [self.r[t][j] for j in members if j != i and self.r[t][j] is not None]
        return sum(others) / len(others) if others else None

    def sector_mean(self, t, i):
        members = [j for j in range(self.N) if self.sector[j] == self.sector[i]]
        others = [j for j in members if j != i and self.r[t][j] is not None]
        return self.mean_of_others(t, i, members) if len(others) >= 3 else self.m[t][i]

    def illiquidity_change(self, t):
        def level(t):
            ratios = [
                abs(self.r[t][i]) / self.row[t][i]["DV"]
                for i in range(self.N)
                if self.row[t][i] and self.r[t][i] is not None
            ]
            middle = np.median(ratios) if ratios else 0.0
            return math.log(middle) if middle > 0 else None

        if t == 0 or level(t) is None or level(t - 1) is None:
            return None
        return level(t) - level(t - 1)

    # --- windows -------------------------------------------------------------------------------------------------
    @staticmethod
    def window(t, n=20):
        return range(max(0, t - n + 1), t + 1)

    def points(self, i, t, *series):
        """Rows of the window where every series has a value."""
        rows = [[s(j, i) for s in series] for j in self.window(t)]
        return [row for row in rows if all(v is not None for v in row)]

    def ret(self, j, i):
        return self.r[j][i] if j >= 0 else None

    def field(self, name):
        return lambda j, i: self.row[j][i][name] if j >= 0 and self.row[j][i] else None

    def prev20(self, i, t):
        got = [self.r[j][i] for j in range(max(0, t - 20), t) if self.r[j][i] is not None]
        return got if len(got) >= 15 else None

    def one(self, name, t, i):
        """One feature of one stock at one session, NaN where undefined."""
        if self.row[t][i] is None:
            return NAN
        value = getattr(self, name)(t, i)
        return NAN if value is None else float(value)

    def table(self, sessions=None):
        """float64 [session, stock, feature]; sessions that are not asked for stay NaN."""
        out = np.full((self.S, self.N, len(NAMES)), np.nan)
        for t in range(self.S) if sessions is None else sessions:
            for i in range(self.N):
                for k, name in enumerate(NAMES):
                    out[t, i, k] = self.one(name, t, i)
        return out

    # --- price shock ---------------------------------------------------------------------------------------------
    def jump(self, t, i):
        pairs = [
            abs(self.r[j][i] * self.r[j - 1][i])
            for j in range(t - 19, t)
            if j >= 1 and self.r[j][i] is not None and self.r[j - 1][i] is not None
        ]
        if len(pairs) < 15:
            return None
        sigma = math.sqrt(math.pi / 2 * np.mean(pairs))
        if self.r[t][i] is None or sigma == 0:
            return 0
        return 1 if abs(self.r[t][i]) > 4 * sigma else 0

    def ext_z(self, t, i):
        w = self.prev20(i, t)
        if w is None or self.r[t][i] is None:
            return None
        sd = np.std(w, ddof=1)
        return 0 if sd < 1e-6 else min(15, max(-15, (self.r[t][i] - np.mean(w)) / sd))

    def returns20(self, t, i):
        got = [x for (x,) in self.points(i, t, self.ret)]
        return got if len(got) >= 15 else None

    def kurt(self, t, i):
        w = self.returns20(t, i)
        if w is None:
            return None
        return 0 if np.std(w) < 1e-8 else kurtosis(w, fisher=True, bias=False)

    def mdd(self, t, i):
        w = [x for (x,) in self.points(i, t, self.field("p"))]
        if len(w) < 15:
            return None
        return max(1 - math.exp(w[v] - w[u]) for u in range(len(w)) for v in range(u, len(w)))

    def cvar95(self, t, i):
        w = self.returns20(t, i)
        return None if w is None else -min(w)

    def upvol(self, t, i):
        w = self.returns20(t, i)
        return None if w is None else math.sqrt(252 * np.mean([max(x, 0) ** 2 for x in w]))

    # --- liquidity -----------------------------------------------------------------------------------------------
    def spread(self, t, i):
        pairs = []
        for j in self.window(t):
            a, b = (self.row[j - 1][i], self.row[j][i]) if j >= 1 else (None, None)
            if a and b and a["H"] > a["L"] and b["H"] > b["L"]:
                eta_a = (math.log(a["H"]) + math.log(a["L"])) / 2
                eta_b = (math.log(b["H"]) + math.log(b["L"])) / 2
                pairs.append(math.sqrt(max(0, 4 * (a["p"] - eta_a) * (a["p"] - eta_b))))
        return 1e4 * np.mean(pairs) if len(pairs) >= 15 else None

    def amihud(self, t, i):
        rows = self.points(i, t, self.ret, self.field("DV"))
        return math.log(1e-6 + np.mean([abs(r) / dv for r, dv in rows]) * 1e9) if len(rows) >= 15 else None

    def roll(self, t, i):
        rows = self.points(i, t, self.ret, lambda j, i: self.ret(j - 1, i))
        if len(rows) < 15:
            return None
        return 1e4 * 2 * math.sqrt(max(0, -np.cov(np.array(rows).T)[0, 1]))

    def turnover(self, t, i):
        past = [self.row[j][i]["V"] for j in range(max(0, t - 250), t) if self.row[j][i]]
        return math.log(self.row[t][i]["V"] / np.median(past)) if len(past) >= 60 else None

    def intensity(self, t, i):
        past = [self.row[j][i]["V"] for j in range(max(0, t - 20), t) if self.row[j][i]]
        return math.log(self.row[t][i]["V"] / np.mean(past)) if len(past) >= 15 else None

    @staticmethod
    def slope(rows):
        y, x = np.array(rows).T
        if np.var(x) < 1e-16:
            return 0.0
        return np.linalg.lstsq(np.column_stack([np.ones_like(x), x]), y, rcond=None)[0][1]

    def impact(self, t, i):
        def signed(j, i):
            if self.ret(j, i) is None:
                return None
            return np.sign(self.r[j][i]) * math.sqrt(self.row[j][i]["DV"] / 1e6)

        rows = self.points(i, t, self.ret, signed)
        return 1e4 * self.slope(rows) if len(rows) >= 15 else None

    def liq_prem(self, t, i):
        rows = self.points(i, t, self.ret, lambda j, i: self.dln[j])
        return -self.slope(rows) if len(rows) >= 15 else None

    def imbalance(self, t, i):
        w, rows = self.prev20(i, t), self.points(i, t, self.ret, self.field("V"))
        if w is None or len(rows) < 15:
            return None
        sd = np.std(w, ddof=1)
        if sd < 1e-8:
            return 0
        return sum(v * (2 * norm.cdf(r / sd) - 1) for r, v in rows) / sum(v for _, v in rows)

    # --- contagion -----------------------------------------------------------------------------------------------
    def market_at(self, j, i):
        return self.m[j][i] if j >= 0 else None

    def sector_at(self, j, i):
        return self.s[j][i] if j >= 0 else None

    def corr(self, rows):
        if len(rows) < 15:
            return None
        a, b = np.array(rows).T
        if np.var(a) < 1e-16 or np.var(b) < 1e-16:
            return 0.0
        return np.corrcoef(a, b)[0, 1]

    def mkt_corr(self, t, i):
        return self.corr(self.points(i, t, self.ret, self.market_at))

    def sec_corr(self, t, i):
        return self.corr(self.points(i, t, self.ret, self.sector_at))

    @staticmethod
    def rsq(y, *xs):
        if np.var(y) < 1e-16:
            return 0.0
        design = np.column_stack([np.ones(len(y)), *((x - x.mean()) / (x.std() or 1) for x in xs)])
        fitted = design @ np.linalg.lstsq(design, y, rcond=1e-6)[0]
        return 1 - np.sum((y - fitted) ** 2) / np.sum((y - y.mean()) ** 2)

    def r2(self, t, i):
        rows = self.points(i, t, self.ret, self.market_at, self.sector_at)
        return self.rsq(*np.array(rows).T) if len(rows) >= 15 else None

    def contagion(self, t, i):
        rows = self.points(i, t, self.ret, self.market_at)
        if len(rows) < 15:
            return None
        a, b = np.minimum(np.array(rows).T, 0)
        scale = math.sqrt((a**2).sum() * (b**2).sum())
        return (a * b).sum() / scale if scale > 0 else 0

    def dcovar(self, t, i):
        rows = self.points(i, t, self.ret, self.market_at)
        return 1.645 * np.std([m for _, m in rows], ddof=1) * self.corr(rows) * 100 if len(rows) >= 15 else None

    def spillover(self, t, i):
        def day_before(series):
            return lambda j, i: series(j - 1, i)

        before = [day_before(s) for s in (self.ret, self.market_at, self.sector_at)]
        rows = self.points(i, t, self.ret, *before)
        if len(rows) < 15:
            return None
        y, own, m, s = np.array(rows).T
        return max(0, self.rsq(y, own, m, s) - self.rsq(y, own))

    def herding(self, t, i):
        same = [j for j in range(self.N) if self.sector[j] == self.sector[i]]
        group = same if len(same) >= 8 else range(self.N)
        xs, ys = [], []
        for j in self.window(t):
            got = [self.r[j][n] for n in group if self.r[j][n] is not None]
            if got:
                mean = np.mean(got)
                xs.append([1, abs(mean), mean**2])
                ys.append(np.mean([abs(g - mean) for g in got]))
        if len(ys) < 15:
            return None
        x = np.array(xs)
        spread1, spread2 = x[:, 1].std(), x[:, 2].std()
        if spread1 == 0 or spread2 == 0 or 1 - np.corrcoef(x[:, 1], x[:, 2])[0, 1] ** 2 < 1e-10:
            return 0
        scaled = np.column_stack([x[:, 0], (x[:, 1] - x[:, 1].mean()) / spread1, (x[:, 2] - x[:, 2].mean()) / spread2])
        return -np.linalg.lstsq(scaled, np.array(ys), rcond=None)[0][2] / spread2

    # --- momentum ------------------------------------------------------------------------------------------------
    def back(self, t, i, k):
        if t - k < 0 or self.p[t - k][i] is None:
            return None
        return self.p[t][i] - self.p[t - k][i]

    def mom5(self, t, i):
        return self.back(t, i, 5)

    def mom20(self, t, i):
        return self.back(t, i, 20)

    def reversal(self, t, i):
        a, b, w = self.mom5(t, i), self.mom20(t, i), self.returns20(t, i)
        if a is None or b is None or w is None:
            return None
        return int(np.sign(a) != np.sign(b) and abs(a) > np.std(w, ddof=1) * math.sqrt(5))

    def prices_to(self, t, i):
        return [self.row[j][i]["C"] for j in range(t + 1) if self.row[j][i]]

    def rsi(self, t, i):
        c = self.prices_to(t, i)
        moves = [b - a for a, b in itertools.pairwise(c)]
        if len(moves) < 14:
            return None
        gain = np.mean([max(x, 0) for x in moves[:14]])
        loss = np.mean([max(-x, 0) for x in moves[:14]])
        for x in moves[14:]:
            gain, loss = (13 * gain + max(x, 0)) / 14, (13 * loss + max(-x, 0)) / 14
        if gain == 0 and loss == 0:
            return 0
        rsi = 100 if loss == 0 else 100 - 100 / (1 + gain / loss)
        return (rsi - 50) / 50

    def macd(self, t, i):
        c = self.prices_to(t, i)

        def ema(series, n):
            out = [series[0]]
            for x in series[1:]:
                out.append(2 / (n + 1) * x + (1 - 2 / (n + 1)) * out[-1])
            return out

        return ema([a - b for a, b in zip(ema(c, 12), ema(c, 26), strict=True)], 9)[-1] / c[-1]

    def vp_div(self, t, i):
        log_volume = lambda j, i: math.log(self.row[j][i]["V"]) if self.row[j][i] else None  # noqa: E731
        value = self.corr(self.points(i, t, self.field("p"), log_volume))
        return None if value is None else -value

    def sup_res(self, t, i):
        rows = self.points(i, t, self.field("H"), self.field("L"))
        if len(rows) < 15:
            return None
        top, floor = max(h for h, _ in rows), min(low for _, low in rows)
        return 0 if top == floor else 2 * (self.row[t][i]["C"] - floor) / (top - floor) - 1

    def accel(self, t, i):
        if t < 5 or self.back(t, i, 5) is None or self.p[t - 5][i] is None:
            return None
        if t < 10 or self.p[t - 10][i] is None:
            return None
        return self.back(t, i, 5) - (self.p[t - 5][i] - self.p[t - 10][i])
