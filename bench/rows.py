"""What a bench says: one row a figure, with its bar; the JSON files of rows, and the page that is made from them."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent / "docs"


@dataclass(frozen=True)
class Row:
    """One figure. With a peer: `ratio` is the median of the pairs' ratios, `low` and `high` their range, `bar` bounds the
    ratio. Without: `ratio` is null, the range is ours and `bar` bounds ours, in `unit`."""

    name: str
    ours: float
    peer: float | None
    unit: str
    ratio: float | None
    low: float
    high: float
    pairs: int
    bar: float | None  # None: no target, told for information
    met: bool
    least: bool = False  # the bar is what is to be reached, not what is not to be exceeded


def paired(name: str, unit: str, ours: Sequence[float], peers: Sequence[float], bar: float | None) -> Row:
    """A row of pairs that were measured alternately in one run."""
    ratios = [mine / theirs for mine, theirs in zip(ours, peers, strict=True)]
    ratio = statistics.median(ratios)
    return Row(
        name,
        round(statistics.median(ours), 4),
        round(statistics.median(peers), 4),
        unit,
        round(ratio, 3),
        round(min(ratios), 3),
        round(max(ratios), 3),
        len(ratios),
        bar,
        bar is None or ratio <= bar,
    )


def alone(name: str, unit: str, ours: Sequence[float], bar: float | None) -> Row:
    """A row without a peer, held against a bound of its own."""
    median = statistics.median(ours)
    return Row(
        name, round(median, 4), None, unit, None, round(min(ours), 4), round(max(ours), 4), len(ours), bar,
        bar is None or median <= bar,
    )  # fmt: skip


def at_least(row: Row, bar: float) -> Row:
    """That row, with a bound that its ratio shall reach instead of one that it shall not exceed."""
    return replace(row, bar=bar, met=row.ratio is not None and row.ratio >= bar, least=True)


@dataclass(frozen=True)
class Result:
    """The rows of one bench, with how they were made and what they were measured on."""

    bench: str
    peer: str
    conditions: str
    rows: tuple[Row, ...]


def write_rows(rows: Sequence[Row], path: Path) -> None:
    """The rows as a JSON list."""
    path.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


def publish(result: Result) -> None:
    """Keep a result below docs/ and make docs/benchmarks.md anew from all that are kept."""
    kept = DOCS / "benchmarks"
    kept.mkdir(exist_ok=True)
    (kept / f"{result.bench}.json").write_text(json.dumps(asdict(result), indent=2) + "\n")
    results = [json.loads(path.read_text()) for path in sorted(kept.glob("*.json"))]
    (DOCS / "benchmarks.md").write_text(_page(results))


def _page(results: Sequence[dict[str, object]]) -> str:
    lines = [
        "# Benchmarks",
        "",
        "Made by `./dev bench`, from the files in `docs/benchmarks/`. With a peer, both ran alternately in one run: the",
        "ratio is the median of the pairs' ratios, the range theirs, and the bar bounds the ratio. Without a peer the range",
        "and the bar are ours. Losing rows stay.",
    ]
    for result in results:
        lines += ["", f"## `./dev bench {result['bench']}`", "", str(result["conditions"])]
        if result["peer"]:
            lines += ["", f"Peer: {result['peer']}."]
        lines += [
            "",
            "| what | ours | peer | unit | ratio | range | n | bar | met |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        rows = result["rows"]
        assert isinstance(rows, list)
        for row in rows:
            told = [_number(row[name]) for name in ("ours", "peer")]
            lines.append(
                f"| {row['name']} | {told[0]} | {told[1]} | {row['unit']} | {_number(row['ratio'])} "
                f"| {_number(row['low'])} to {_number(row['high'])} | {row['pairs']} "
                f"| {_bar(row)} | {_met(row)} |"
            )
    return "\n".join(lines) + "\n"


def _bar(row: dict[str, object]) -> str:
    if row["bar"] is None:
        return "–"
    return f"{'≥' if row.get('least') else '≤'} {_number(row['bar'])}"


def _met(row: dict[str, object]) -> str:
    if row["bar"] is None:
        return "–"
    return "yes" if row["met"] else "**no**"


def _number(value: object) -> str:
    return "–" if value is None else f"{value:g}"


def in_the_terminal(rows: Sequence[Row]) -> str:
    """The rows for whoever waits for them."""
    lines = []
    for row in rows:
        peer = "" if row.peer is None else f", peer {row.peer:g}, ratio {row.ratio:g}"
        bar = "" if row.bar is None else f"; bar {row.bar:g}: {'met' if row.met else 'NOT MET'}"
        lines.append(f"{row.name}: {row.ours:g} {row.unit}{peer} ({row.low:g} to {row.high:g}, n = {row.pairs}){bar}")
    return "\n".join(lines)
