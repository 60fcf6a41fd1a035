#!/usr/bin/env python3
"""What do the measurements say? One table per case in results/speed/README.md, from the files beside it."""

import json
import os

import cases

DIR = os.path.join(cases.REPO, "results", "speed")


def path_of(comparison):
    name = comparison.key.replace(" ", "-").replace("=", "")
    return os.path.join(DIR, f"{name}.json")


def read(comparison):
    """What was measured before; nothing where nothing was."""
    try:
        with open(path_of(comparison), encoding="utf-8") as f:
            return json.load(f)
    except FileNotFoundError:
        return None


def write(comparison, measured):
    os.makedirs(DIR, exist_ok=True)
    path = path_of(comparison)
    with open(path + ".part", "w", encoding="utf-8") as f:
        json.dump(measured, f, indent=1)
        f.write("\n")
    os.replace(path + ".part", path)


def number(x):
    if x is None:
        return "–"
    return f"{x:.0f}" if x >= 100 else f"{x:.1f}" if x >= 10 else f"{x:.2f}"


def summary(row):
    """A peer's row in one line."""
    if "failed" in row:
        return f"{row['label']}: {row['failed']}"
    ratios = [f"{label} {r['median']:.2f}x ({r['least']:.2f} to {r['most']:.2f})" for label, r in row["ratios"].items()]
    return f"{row['label']}: {row['secs']:.3f} s, {row['peak_rss_mib']:.0f} MiB; " + ", ".join(ratios)


def cell_text(text):
    return text.replace("|", "\\|").replace("\n", " ")


def best_limits(rows):
    """The best of what our programs of a comparison found, each for itself: a busy moment gives less, never more."""
    found = [row["limits"] for row in rows if row.get("limits")]
    numbers = [k for k, x in found[0].items() if isinstance(x, float)] if found else []
    return {k: max(limits[k] or 0 for limits in found) for k in numbers}


def with_shares(row, limits):
    """The row with its shares of these limits instead of its own."""
    out = dict(row)
    matrix = limits.get("bf16_matrix_gflops") if row["precision"] == "bf16" else None
    if "flop_per_sec" in row and limits:
        out["share_of_matrix_peak"] = row["flop_per_sec"] / 1e9 / (matrix or limits["f32_matrix_gflops"])
    if "weight_bytes" in row and limits:
        out["share_of_bandwidth"] = row["weight_bytes"] / row["secs"] / 1e9 / limits["read_gb_s"]
    return out


def section(measured):
    """The table of one comparison."""
    limits = best_limits(measured["ours"])
    measured["ours"] = [row if "failed" in row else with_shares(row, limits) for row in measured["ours"]]
    ours = [row for row in measured["ours"] if "failed" not in row]
    tokens = ours[0]["tokens"] if ours else None
    labels = [row["label"] for row in ours]
    head = ["", "tokens/s", "MiB", "of matrix peak", "of bandwidth"] + [f"time against {label}" for label in labels]
    lines = [f"### {measured['case']}, {measured['model']}", ""]
    lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    share = lambda row, key: f"{100 * row[key]:.0f} %" if key in row else ""
    for row in measured["ours"]:
        if "failed" in row:
            cells = [row["label"], cell_text(row["failed"])]
        else:
            cells = [f"**{row['label']}**", number(row["tokens_per_sec"]), number(row["peak_rss_mib"]),
                     share(row, "share_of_matrix_peak"), share(row, "share_of_bandwidth")]
        lines.append("| " + " | ".join(cells + [""] * (len(head) - len(cells))) + " |")
    for row in measured["peers"]:
        if "failed" in row:
            cells = [row["label"], cell_text(row["failed"])]
        else:
            # Tokens of the peer: in trees it works on the unrolled ones, which its detail says.
            n = row["detail"].get("tokens", tokens)
            rate = n / row["secs"] if n else None
            old = row.get("against") not in [mine["commit"] for mine in ours]
            label = row["label"] + (f" (ours at {row.get('against')})" if old else "")
            cells = [label, number(rate), number(row["peak_rss_mib"]), "", ""]
            for label in labels:
                r = row["ratios"].get(label)
                cells.append(f"{r['median']:.2f} ({r['least']:.2f}–{r['most']:.2f})" if r else "")
        lines.append("| " + " | ".join(cells + [""] * (len(head) - len(cells))) + " |")
    commits = ", ".join(sorted({row["commit"] for row in ours}))
    said = [f"Commit {commits}; {ours[0]['machine']}; {measured['threads']} threads"] if ours else []
    if limits:
        bf16 = limits.get("bf16_matrix_gflops")
        said.append(
            f"matrix peak {number(limits['f32_matrix_gflops'])} GFLOP/s in f32"
            + (f", {number(bf16)} in bf16" if bf16 else "")
            + f", read bandwidth {number(limits['read_gb_s'])} GB/s"
        )
    lines += ["", "; ".join(said) + "."] if said else []
    return "\n".join(lines)


def scale_section(measured):
    """One table of all trees and trajectories that grow."""
    lines = ["### Growing trees and trajectories", ""]
    head = ["", "model", "tokens", "tokens/s", "FLOP of attention", "of matrix peak", "MiB"]
    lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for one in measured:
        for row in one["ours"]:
            name = " ".join(one["case"].split()[1:2]) + " " + row["label"]
            if "failed" in row:
                cells = [name, one["model"], one["case"].split()[-1], cell_text(row["failed"]), "", "", ""]
            else:
                attention = 100 * row["detail"]["flop_of_attention"] / row["flop"]
                cells = [name, one["model"], str(row["tokens"]), number(row["tokens_per_sec"]), f"{attention:.0f} %",
                         f"{100 * row['share_of_matrix_peak']:.0f} %", number(row["peak_rss_mib"])]
            lines.append("| " + " | ".join(cells) + " |")
    commits = sorted({row["commit"] for one in measured for row in one["ours"] if "commit" in row})
    text = "A training step; trajectories with blocks computed again. Commit " + ", ".join(commits) + "."
    return "\n".join([*lines, "", text])


def make():
    """Writes the page anew."""
    parts = [
        "# Speed",
        "Made by `benches/peers/drive.py`; what is measured and how is in [docs/speed.md](../../docs/speed.md). The last "
        "columns are the peer's time over ours for the same work, pair by pair: median, and least and most in brackets; "
        "above 1 ours is faster. MiB is the most memory resident, of the whole process. The files beside this page hold "
        "every round.",
    ]
    growing = []
    for comparison in cases.all_comparisons():
        measured = read(comparison)
        if measured and comparison.case.startswith("scale "):
            growing.append(measured)
        elif measured:
            parts.append(section(measured))
    parts += [scale_section(growing)] if growing else []
    path = os.path.join(DIR, "README.md")
    with open(path + ".part", "w", encoding="utf-8") as f:
        f.write("\n\n".join(parts) + "\n")
    os.replace(path + ".part", path)


if __name__ == "__main__":
    make()
