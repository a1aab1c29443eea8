"""An evaluation as text, and as the files of a report."""

from collections.abc import Callable, Sequence
from pathlib import Path

from model.core.bootstrap import Interval
from model.core.errors import MissingExtraError
from model.core.metrics import SHORT, RankSummaries, Recalls
from model.training.coco import CocoScores
from model.training.curves import Curves
from model.training.evaluation import CASCADE, Evaluation

JSON_FILE, TABLE_FILE, CURVES_FILE = "report.json", "report.md", "curves.json"
KEPT_PLOT, MEMORY_PLOT = "recall_kept.png", "rsum_by_memory.png"
DIRECTIONS = tuple(SHORT.values())
RECALLS = ("R@1", "R@5", "R@10")
RANKS = ("median", "mean")

RANKS_OF, INTERVALS_OF = "Ranks of the best true match", "rSum, 95 % intervals over images"
NOTES = {
    RANKS_OF: "1 is best. What Stage I drops follows what it keeps, in the order of the plain "
    "cosine: a dropped match ranks behind the whole list.",
    INTERVALS_OF: "Percentile intervals of the bootstrap: images are drawn with all their "
    "captions, the gallery stays whole, and a ranking and the base are drawn alike.",
}

Rows = Sequence[Sequence[str]]


def text_table(result: Evaluation) -> str:
    """The evaluation for a terminal, a line per ranking."""
    parts = [_aligned(rows) for rows in _tables(result).values() if len(rows) > 1]
    return "\n\n".join(parts)


def draw_files(curves: Curves, folder: Path) -> None:
    """Draw the plots of the curves into the folder.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from model.training.plots import draw_plots
    except ModuleNotFoundError as error:
        raise MissingExtraError("plots", "matplotlib", "plots") from error
    draw_plots(curves, folder / KEPT_PLOT, folder / MEMORY_PLOT)


def write_report(
    result: Evaluation,
    curves: Curves,
    folder: Path,
    title: str,
    draw: Callable[[Curves, Path], None] = draw_files,
) -> None:
    """Write report.json, report.md, curves.json and, last, the plots of the curves.

    Raises:
        MissingExtraError: the plots cannot be drawn; all else is written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / JSON_FILE).write_text(result.model_dump_json(indent=2) + "\n", encoding="utf-8")
    (folder / CURVES_FILE).write_text(curves.model_dump_json(indent=2) + "\n", encoding="utf-8")
    (folder / TABLE_FILE).write_text(_markdown(result, title), encoding="utf-8")
    draw(curves, folder)


def _markdown(result: Evaluation, title: str) -> str:
    """The tables under their headings, and the plots."""
    parts = [f"# {title}"]
    for heading, rows in _tables(result).items():
        if len(rows) > 1:
            parts += [f"## {heading}", markdown(rows[0], rows[1:])]
            parts += [NOTES[heading]] if heading in NOTES else []
    parts += [f"![recall kept by candidates]({KEPT_PLOT})", f"![rSum by memory]({MEMORY_PLOT})"]
    return "\n\n".join(parts) + "\n"


def _tables(result: Evaluation) -> dict[str, Rows]:
    """Rows by heading, the first of each with the names of the columns."""
    named = {"base": result.base, "reference": result.reference, **result.protocols}
    run = {name: recalls for name, recalls in named.items() if recalls is not None}
    stages = [[f"kept by {s}", f"{k.i2t:.1f}", f"{k.t2i:.1f}"] for s, k in result.kept.items()]
    return {
        "Recalls, percent": _recall_rows(run),
        RANKS_OF: _rank_rows({name: result.ranks[name] for name in run}),
        INTERVALS_OF: _interval_rows(result, list(run)),
        "Queries with a true match kept, percent": [["stage", *DIRECTIONS], *stages],
        "ECCV Caption and CxC, percent": _coco_rows(result.coco or {}),
    }


def _recall_rows(rankings: dict[str, Recalls]) -> Rows:
    head = ["ranking", *(f"{way} {cut}" for way in DIRECTIONS for cut in RECALLS), "rSum"]
    return [head] + [
        [name, *(f"{value:.1f}" for value in (*one.i2t, *one.t2i, one.rsum))]
        for name, one in rankings.items()
    ]


def _rank_rows(rankings: dict[str, RankSummaries]) -> Rows:
    head = ["ranking", *(f"{way} {figure}" for way in DIRECTIONS for figure in RANKS)]
    return [head] + [
        [name, *(f"{v:.1f}" for way in (one.i2t, one.t2i) for v in (way.median, way.mean))]
        for name, one in rankings.items()
    ]


def _interval_rows(result: Evaluation, names: Sequence[str]) -> Rows:
    head = ["ranking", "rSum", "above base"]
    if result.intervals is None:
        return [head]
    rsum, above = result.intervals.rsum, result.intervals.above_base
    return [head] + [
        [name, _between(rsum[name], ""), _between(above[name], "+") if name in above else ""]
        for name in names
    ]


def _between(interval: Interval, sign: str) -> str:
    value, low, high = (f"{x:{sign}.1f}" for x in (interval.value, interval.low, interval.high))
    return f"{value} ({low} to {high})"


def _coco_rows(scores: dict[str, CocoScores]) -> Rows:
    names = list(next(iter(scores.values()), {}))
    head = ["ranking", *(f"{name} {way}" for name in names for way in DIRECTIONS)]
    return [head] + [
        [ranking, *(f"{x:.1f}" for name in names for x in (own[name].i2t, own[name].t2i))]
        for ranking, own in scores.items()
        if ranking != CASCADE
    ]


def _aligned(rows: Rows) -> str:
    """Columns of equal width: the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return "\n".join(lines)


def markdown(head: Sequence[str], rows: Rows) -> str:
    """A table, the first column to the left and the others to the right."""
    marks = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, marks, *rows))
