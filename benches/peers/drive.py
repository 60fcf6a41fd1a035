#!/usr/bin/env python3
"""How does the engine compare with its peers? Rounds in turn, A B A B, and the ratio of each pair.

    benches/peers/setup                       the peers' environments, once
    cargo build --release -p aepo-bench
    benches/peers/drive.py                    everything; hours, most of them the slowest peers'
    benches/peers/drive.py --only 'train 15m' --peers 'eager|bf16' --pairs 5

Every program stays alive in a process of its own, and waits without working while another has its turn. A comparison
is written to results/speed/CASE-MODEL.json, which keeps the rows of peers that this run did not ask for, and then the
table results/speed/README.md is made anew from all of them. Standard library only.
"""

import argparse
import datetime
import json
import os
import re
import selectors
import subprocess
import sys
import time

import cases
import table

HERE, REPO = cases.HERE, cases.REPO


class Failed(Exception):
    """A program that cannot take part, and why."""


class Program:
    """A program that does a round when told to."""

    def __init__(self, label, command, log):
        self.label = label
        self.log = open(log, "w+", encoding="utf-8", errors="replace")
        try:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True, cwd=HERE,
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            )
        except OSError as e:
            raise Failed(str(e)) from None

    def line(self, secs):
        """The next line; the program is stopped if it says none for so long."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            if not selector.select(secs):
                self.stop()
                raise Failed(f"no answer within {secs:.0f} s")
        line = self.process.stdout.readline()
        if line:
            return line.strip()
        self.process.wait()
        self.log.seek(0)
        said = [text.strip() for text in self.log.read().splitlines() if text.strip()]
        raise Failed(said[-1].removeprefix("error: ")[:300] if said else f"ended with status {self.process.returncode}")

    def wait_ready(self, secs):
        while self.line(secs) != "ready":
            pass

    def round(self, secs):
        try:
            self.process.stdin.write("go\n")
            self.process.stdin.flush()
        except OSError:
            pass
        return json.loads(self.line(secs))

    def stop(self):
        try:
            self.process.stdin.close()
            self.process.wait(10)
        except (OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        self.log.close()


def median(numbers):
    s = sorted(numbers)
    return (s[(len(s) - 1) // 2] + s[len(s) // 2]) / 2


class Bench:
    def __init__(self, args):
        self.args = args
        self.logs = os.path.join(args.peers_dir, "logs")
        os.makedirs(self.logs, exist_ok=True)

    def weights(self, model):
        if model == "quickstart":
            return os.path.join(REPO, "recipes", "quickstart", "model")
        directory = os.path.join(self.args.peers_dir, "weights", model)
        if not os.path.exists(os.path.join(directory, "model.safetensors")):
            subprocess.run([self.args.bench, "weights", model, directory], check=True)
        return directory

    def start_ours(self, comparison, ours):
        weights = ["--weights", self.weights(comparison.model)]
        threads = ["--threads", str(self.args.threads)]
        command = [self.args.bench, *ours.args, *weights, *threads, "--on-request"]
        return Program(ours.label, command, os.path.join(self.logs, "aepo.log"))

    def start_peer(self, comparison, peer):
        python = os.path.join(self.args.peers_dir, peer.env, "bin", "python")
        failed = os.path.join(self.args.peers_dir, f"{peer.env}.failed")
        if os.path.exists(failed):
            with open(failed, encoding="utf-8") as f:
                raise Failed("not installed: " + " ".join(f.read().split())[:300])
        if not os.path.exists(python):
            raise Failed("not installed: run benches/peers/setup")
        command = [python, peer.script, *peer.args, "--weights", self.weights(comparison.model), "--threads", str(self.args.threads)]
        return Program(peer.label, command, os.path.join(self.logs, f"{peer.env}.log"))

    def compare(self, comparison):
        """All rows of a comparison: ours stay alive while the peers come one after the other."""
        old = table.read(comparison)
        rows = {row["label"]: row for row in (old or {}).get("peers", [])}
        best = {row["label"]: row for row in (old or {}).get("ours", [])}
        ours = []

        def save():
            order = [p.label for p in comparison.peers]
            table.write(comparison, {
                "case": comparison.case,
                "model": comparison.model,
                "threads": self.args.threads,
                "ours": [best[o.label] for o in comparison.ours if o.label in best],
                "peers": [rows[label] for label in order if label in rows],
            })
            table.make()

        try:
            for one in comparison.ours:
                try:
                    program = self.start_ours(comparison, one)
                    program.wait_ready(self.args.patience)
                    ours.append(program)
                except Failed as e:
                    best[one.label] = {"label": one.label, "failed": str(e)}
            peers = [p for p in comparison.peers if re.search(self.args.peers, p.label)]
            if not peers and ours:
                self.rounds(ours, None, best)
            for peer in peers:
                try:
                    program = self.start_peer(comparison, peer)
                    try:
                        program.wait_ready(self.args.patience)
                        rows[peer.label] = self.rounds(ours, program, best)
                    finally:
                        program.stop()
                except Failed as e:
                    rows[peer.label] = {"label": peer.label, "failed": str(e)}
                # A run that is stopped keeps what it has measured.
                save()
                print(f"{comparison.key}: {table.summary(rows[peer.label])}", flush=True)
        finally:
            for program in ours:
                program.stop()
        save()

    def rounds(self, ours, peer, best):
        """Rounds in turn. Gives the peer's row; the rows of ours go into `best`."""
        programs = [*ours, *([peer] if peer else [])]
        taken = {p.label: [] for p in programs}
        began = time.monotonic()
        for i in range(self.args.pairs):
            for program in programs:
                taken[program.label].append(program.round(self.args.patience))
            # Slow peers get fewer pairs, never fewer than two; the longest of our own cases get one round.
            if (i >= 1 or peer is None) and time.monotonic() - began > self.args.secs:
                break
        when = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M")
        for program in ours:
            got = taken[program.label]
            row = dict(got[-1])
            secs = [r["secs"] for r in got]
            row.update(label=program.label, secs=median(secs), rounds=secs, when=when)
            scale = got[-1]["secs"] / row["secs"]
            for key in ("tokens_per_sec", "flop_per_sec", "share_of_matrix_peak", "share_of_bandwidth"):
                if key in row:
                    row[key] *= scale
            row["peak_rss_mib"] = max(r["peak_rss_mib"] or 0 for r in got)
            best[program.label] = row
        if peer is None:
            return None
        got = taken[peer.label]
        secs = [r["secs"] for r in got]
        ratios = {}
        for program in ours:
            pairs = [theirs["secs"] / mine["secs"] for mine, theirs in zip(taken[program.label], got)]
            ratios[program.label] = {"median": median(pairs), "least": min(pairs), "most": max(pairs), "pairs": pairs}
        return {
            "label": peer.label, "secs": median(secs), "rounds": secs, "peak_rss_mib": max(r["peak_rss_mib"] for r in got),
            "detail": got[-1]["detail"], "ratios": ratios, "when": when,
            "against": taken[ours[0].label][-1]["commit"] if ours else None,
        }


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--only", default="", help="comparisons whose `case model` matches this expression")
    p.add_argument("--peers", default="", help="peers whose label matches this expression; `^$` for ours alone")
    p.add_argument("--pairs", type=int, default=5, help="rounds of each")
    p.add_argument("--secs", type=float, default=30, help="no further pair is begun after so long, from the third on")
    p.add_argument("--patience", type=float, default=900, help="longest wait for one answer, seconds")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--list", action="store_true", help="names what would be measured")
    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(REPO, "target"))
    p.add_argument("--bench", default=os.path.join(target, "release", "aepo-bench"))
    p.add_argument("--peers-dir", default=os.environ.get("AEPO_PEERS_DIR", os.path.join(REPO, "target", "peers")))
    args = p.parse_args()
    chosen = [c for c in cases.all_comparisons() if re.search(args.only, c.key)]
    if args.list:
        for c in chosen:
            print(c.key)
            for peer in c.peers:
                if re.search(args.peers, peer.label):
                    print(f"    {peer.label}")
        return 0
    if not os.path.exists(args.bench):
        print(f"{args.bench} is not there: cargo build --release -p aepo-bench", file=sys.stderr)
        return 2
    bench = Bench(args)
    for comparison in chosen:
        bench.compare(comparison)
    return 0


if __name__ == "__main__":
    sys.exit(main())
