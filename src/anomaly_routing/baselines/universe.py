"""Whether a panel has the stocks that a detector was fitted on, for those that keep something of each."""

from __future__ import annotations

from collections.abc import Sequence

from anomaly_routing.panel import Panel


def check_universe(fitted: Sequence[str], panel: Panel) -> None:
    """Raise ValueError unless the panel has the stocks that were fitted, in their order: what was kept of each stock is
    looked up by its place."""
    if list(panel.tickers) == list(fitted):
        return
    remedy = "score the fitted stocks in their order, or fit on this universe"
    if sorted(panel.tickers) == sorted(fitted):
        place = next(i for i, (a, b) in enumerate(zip(panel.tickers, fitted, strict=True)) if a != b)
        raise ValueError(
            f"the panel has the fitted stocks in another order: {panel.tickers[place]} stands where "
            f"{fitted[place]} was fitted. Remedy: {remedy}"
        )
    new, gone = sorted(set(panel.tickers) - set(fitted)), sorted(set(fitted) - set(panel.tickers))
    raise ValueError(
        f"the panel has other stocks than were fitted (new: {', '.join(new[:5]) or 'none'}; missing: "
        f"{', '.join(gone[:5]) or 'none'}). Remedy: {remedy}"
    )
