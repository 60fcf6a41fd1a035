"""Which pairs does math-verify decide otherwise than our grader, and how long does it take?

    cargo run --release -p aepo --example grading > pairs.jsonl
    venv/bin/python compare_grading.py pairs.jsonl            # math-verify==0.9.0 in venv

The pairs are made of the benchmarks' reference answers by `tests/grading/pairs.rs`, with the truth known by
construction. math-verify gets the reference as its gold, both in dollar signs, with LaTeX and plain expressions to be
extracted. Prints counts per kind of rewriting and up to three examples of each disagreement.
"""

import json
import sys
import time
from collections import defaultdict

from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify


def parsed(text):
    text = text if text.startswith("$") and text.endswith("$") and len(text) > 1 else f"${text}$"
    return parse(text, extraction_config=[LatexExtractionConfig(), ExprExtractionConfig()])


def main():
    rows = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8")]
    summary = rows.pop()["summary"]
    kinds = defaultdict(lambda: [0, 0, 0])
    differing = defaultdict(list)
    secs = 0.0
    for row in rows:
        start = time.perf_counter()
        told = bool(verify(parsed(row["reference"]), parsed(row["answer"])))
        secs += time.perf_counter() - start
        counts = kinds[row["kind"]]
        counts[0] += 1
        counts[1] += row["ours"] == row["equal"]
        counts[2] += told == row["equal"]
        if told != row["ours"]:
            differing[(row["kind"], row["equal"], row["ours"], told)].append((row["answer"], row["reference"]))
    print(f"{'rewriting':24} {'pairs':>6} {'ours right':>11} {'math-verify right':>18}")
    for kind, (n, ours, theirs) in sorted(kinds.items()):
        print(f"{kind:24} {n:6} {ours:11} {theirs:18}")
    n = len(rows)
    ours = sum(c[1] for c in kinds.values())
    theirs = sum(c[2] for c in kinds.values())
    print(f"{'all':24} {n:6} {ours:11} {theirs:18}   {100 * ours / n:.2f} % and {100 * theirs / n:.2f} %")
    print(f"ours {summary['secs']:.3f} s, math-verify {secs:.1f} s: {secs / summary['secs']:.0f} times as long")
    print(f"our longest: {summary['longest_ms']:.2f} ms for {summary['longest']}")
    print("\ndisagreements: kind, truth, ours, math-verify, count, examples")
    for (kind, truth, mine, told), pairs in sorted(differing.items()):
        print(f"{kind}: {truth} {mine} {told} {len(pairs)}  {pairs[:3]}")


if __name__ == "__main__":
    main()
