"""Plots of an evaluation as PNG files.

The only door to matplotlib, which the extra `plots` brings: import this module where a plot is
asked for. Drawn without pyplot, so nothing global changes.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from model.training.curves import Curves, KeptCurve, MemoryPoint

HASH, PQ, BASE = "#2f6690", "#d1603d", "#6b7280"
INK, GRID = "#1f2933", "#e5e7eb"
TITLES = {"i2t": "image to text", "t2i": "text to image"}
STAGES = {"hash": ("hash", HASH), "pq": ("hash, then PQ", PQ)}
# Where a budget's label stands from its dot: each where its own curve leaves room.
LABELS = {"hash": ((7, -14), "left"), "pq": ((-7, 6), "right")}
DPI = 160


class SumPanel(NamedTuple):
    """Curves of rSum by name over one quantity, ascending."""

    quantity: str
    values: Sequence[int]
    curves: Mapping[str, Sequence[float]]


def draw_sums(panels: Sequence[SumPanel], base: float, path: Path) -> None:
    """Write a PNG file: rSum over each panel's quantity, above the plain cosine's."""
    with _styled():
        _drawn_sums(panels, base).savefig(path, dpi=DPI)


def draw_plots(curves: Curves, kept: Path, memory: Path) -> None:
    """Write two PNG files: recall kept by candidates, and rSum by memory."""
    with _styled():
        _drawn_kept(curves).savefig(kept, dpi=DPI)
        _drawn_memory(curves).savefig(memory, dpi=DPI)


def _styled() -> AbstractContextManager[None]:
    style: AbstractContextManager[None] = matplotlib.rc_context(
        {
            "font.size": 10.5,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.edgecolor": BASE,
            "axes.labelcolor": INK,
            "axes.titlecolor": INK,
            "axes.titlesize": 11.5,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": GRID,
            "xtick.color": INK,
            "ytick.color": INK,
            "text.color": INK,
            "lines.linewidth": 2.0,
            "legend.frameon": False,
        }
    )
    return style


def _drawn_kept(curves: Curves) -> Figure:
    figure = Figure(figsize=(9.2, 4.0), layout="constrained")
    panels = figure.subplots(1, len(TITLES), sharey=True)
    for panel, (short, title) in zip(panels, TITLES.items(), strict=True):
        for stage in STAGES:
            _draw_curve(panel, curves.kept[stage][short], stage)
        panel.set(title=title, xscale="log", xlabel="candidates kept", ylim=(0, 105))
        panel.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    panels[0].set_ylabel("queries with a true match kept, %")
    panels[1].legend(loc="lower right")
    return figure


def _draw_curve(panel: Axes, curve: KeptCurve, stage: str) -> None:
    """A stage's curve, with a dot where the evaluation's budget lies."""
    (label, colour), (offset, side) = STAGES[stage], LABELS[stage]
    panel.plot(curve.candidates, curve.percent, color=colour, label=label)
    at = curve.percent[curve.candidates.index(curve.budget)]
    panel.plot(curve.budget, at, "o", color=colour, markersize=6)
    panel.annotate(
        f"{at:.1f} at {curve.budget:,}",
        (curve.budget, at),
        xytext=offset,
        textcoords="offset points",
        ha=side,
        color=colour,
        fontsize=9,
    )


def _drawn_memory(curves: Curves) -> Figure:
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    panel = figure.subplots()
    _draw_base(panel, curves.base)
    sizes = [point.bytes_per_item for point in curves.fitted]
    sums = [point.rsum for point in curves.fitted]
    panel.plot(sizes, sums, "o-", color=HASH, label="heads fitted for the plot")
    own = curves.own
    for point in curves.fitted:  # away from the own point, which may be near
        _name_point(panel, point, HASH, (0, 9 if point.rsum >= own.rsum else -18), "center")
    panel.plot(own.bytes_per_item, own.rsum, "*", color=PQ, markersize=14, label="own heads")
    _name_point(panel, own, PQ, (12, -4), "left")
    panel.set(xscale="log", xlabel="hash and PQ codes of an item, bytes", ylabel="cascade, rSum")
    ticks = sorted({*sizes, own.bytes_per_item})
    panel.set_xticks(ticks, [str(size) for size in ticks])
    panel.minorticks_off()
    panel.margins(x=0.12, y=0.2)
    panel.legend(loc="center right")
    return figure


def _drawn_sums(panels: Sequence[SumPanel], base: float) -> Figure:
    figure = Figure(figsize=(4.6 * len(panels), 4.0), layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), sharey=True), panels, strict=True):
        _draw_base(axes, base)
        for colour, (name, sums) in zip((HASH, PQ), panel.curves.items(), strict=True):
            axes.plot(panel.values, sums, "o-", color=colour, label=name)
        axes.set(xscale="log", xlabel=panel.quantity)
        axes.set_xticks(panel.values, [_short(value) for value in panel.values])
        axes.minorticks_off()
        axes.margins(x=0.08, y=0.12)
    axes.legend(loc="center right")
    figure.axes[0].set_ylabel("Stage II without Stage I, rSum")
    return figure


def _short(count: int) -> str:
    """A count in few letters: neighbours on a logarithmic axis stand close together."""
    return f"{count / 1000:.3g}k" if count >= 1000 else str(count)


def _draw_base(panel: Axes, base: float) -> None:
    panel.axhline(base, color=BASE, linestyle=(0, (5, 3)), linewidth=1.4)
    panel.annotate(
        f"cosine over all items: {base:.1f}",
        (0.01, base),
        xycoords=("axes fraction", "data"),
        xytext=(0, 4),
        textcoords="offset points",
        color=BASE,
        fontsize=9,
    )


def _name_point(
    panel: Axes, point: MemoryPoint, colour: str, offset: tuple[int, int], side: str
) -> None:
    panel.annotate(
        f"{point.n_bits} bits: {point.rsum:.1f}",
        (point.bytes_per_item, point.rsum),
        xytext=offset,
        textcoords="offset points",
        ha=side,
        color=colour,
        fontsize=9,
    )
