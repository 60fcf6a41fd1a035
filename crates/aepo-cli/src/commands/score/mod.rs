//! How right are predictions that somebody else's program made? Graded as training and evaluation grade.

mod input;
pub mod judge;
mod key;
mod tell;

use std::path::PathBuf;

use aepo::data::benchmark::{self, BENCHMARKS, Benchmark};
use aepo::data::task::Grader;
use aepo::score::{Verdict, grade, qa, solution};
use clap::{Args, ValueEnum};

use crate::error::usage;
use input::{Input, Row};
use judge::{JudgeArgs, Judging, Opinion};
use key::Key;
use tell::Told;

#[derive(Debug, Args)]
#[command(after_help = "\
Input, one JSON object per line on standard input:
  {\"prediction\": \"1/2\", \"answer\": \"0.5\"}          one answer; `answer` is a text, a number or a list of accepted ones
  {\"id\": 7, \"predictions\": [\"a\", \"b\"], …}         several answers to one question; their mean counts
A prediction may be a whole solution: what stands in its last \\boxed{…}, behind #### or behind \"the answer is\" is graded.

Examples:
  aepo score --grader math --json < rows.jsonl
  aepo score --benchmark gsm8k --data gsm8k.jsonl < predictions.jsonl
  aepo score --benchmark simpleqa --data benchmarks/ --judge http://localhost:8000/v1 --judge-model Qwen2.5-72B-Instruct

With --benchmark, rows name their question by its `id` or by `question`, and accepted answers come from the benchmark's file;
a row with an `answer` needs neither. --data is that file, or a folder in which it has a name of the benchmark; without
it, the folder is that of AEPO_BENCHMARKS, or ./benchmarks.

With --json each row gives {\"id\",\"score\",\"exact\",\"why\"}, in the order of the input (with the grader qa also \"f1\" and
\"em\", as SQuAD defines them), and the end {\"summary\":{…}}. A row without a verdict of the judge has the score null and
is in no mean. docs/grading.md says what each grader accepts.

Exit codes: 0 every row was graded, whatever its score; 1 a file or the judge's file cannot be used; 2 wrong command line or
a row that cannot be graded.")]
pub struct ScoreArgs {
    /// How answers are compared
    #[arg(long, value_enum, required_unless_present = "benchmark", conflicts_with = "benchmark")]
    pub grader: Option<GraderArg>,
    /// The benchmark that was answered
    #[arg(long, value_name = "NAME")]
    pub benchmark: Option<String>,
    /// The benchmark's file, or the folder that holds it
    #[arg(long, value_name = "PATH", requires = "benchmark")]
    pub data: Option<PathBuf>,
    /// Print one JSON object per row, and a summary
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub judge: JudgeArgs,
}

/// The graders by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GraderArg {
    /// Equal values
    Math,
    /// Token F1, or the same number, date or words
    Qa,
    /// GAIA's rule
    Gaia,
    /// The letter of a choice
    Choice,
}

impl GraderArg {
    fn grader(self) -> Grader {
        match self {
            GraderArg::Math => Grader::Math,
            GraderArg::Qa => Grader::Qa,
            GraderArg::Gaia => Grader::Gaia,
            GraderArg::Choice => Grader::Choice,
        }
    }
}

/// What is said of one prediction.
pub struct Graded {
    /// What was graded, where that is a part of the prediction.
    taken: Option<String>,
    /// The grader's word.
    verdict: Verdict,
    /// F1 and exact match as SQuAD defines them, where the grader is for open answers.
    squad: Option<(f64, bool)>,
    /// The judge's word, where there is one.
    opinion: Option<Opinion>,
}

impl Graded {
    /// `None` where a judge gave no verdict.
    fn score(&self) -> Option<f64> {
        match &self.opinion {
            Some(opinion) => opinion.correct.map(|correct| f64::from(u8::from(correct))),
            None => Some(self.verdict.score),
        }
    }
}

/// Grades rows from standard input.
pub fn score(args: &ScoreArgs) -> anyhow::Result<()> {
    let benchmark = args.benchmark.as_deref().map(named).transpose()?;
    let grader = match (args.grader, benchmark) {
        (Some(grader), _) => grader.grader(),
        (None, Some(benchmark)) => benchmark.grader,
        (None, None) => return Err(usage("neither --grader nor --benchmark is given", "")),
    };
    let mut key = benchmark.map(|benchmark| Key::of(benchmark, args.data.as_deref())).transpose()?;
    let judging = args.judge.start()?;
    let mut told = Told::begin(args.json, grader, benchmark, judging.as_ref().map(Judging::model))?;
    let mut input = Input::new(std::io::stdin().lock());
    // A judge is given several rows at once; without one a row is answered before the next is read.
    let n_at_once = judging.as_ref().map_or(1, Judging::n_at_once);
    loop {
        let mut rows = Vec::new();
        let mut wrong = None;
        while rows.len() < n_at_once {
            match input.next(grader, key.as_mut()) {
                Ok(Some(row)) => rows.push(row),
                Ok(None) => break,
                Err(error) => {
                    wrong = Some(error);
                    break;
                }
            }
        }
        let is_last = rows.len() < n_at_once;
        let mut graded: Vec<Vec<Graded>> = rows.iter().map(graded).collect();
        if let Some(judging) = &judging {
            judging.judge(&rows, &mut graded)?;
        }
        for (row, graded) in rows.iter().zip(&graded) {
            told.row(row, graded)?;
        }
        // What came before a wrong row is told first.
        if let Some(error) = wrong {
            return Err(error);
        }
        if is_last {
            break;
        }
    }
    told.end(key.as_ref().map(Key::coverage), judging.as_ref().map(Judging::counts))
}

fn named(name: &str) -> anyhow::Result<&'static Benchmark> {
    benchmark::find(name).ok_or_else(|| {
        let names: Vec<&str> = BENCHMARKS.iter().map(|benchmark| benchmark.name).collect();
        usage(format!("--benchmark: there is no benchmark `{name}`"), &format!("one of {}", names.join(", ")))
    })
}

fn graded(row: &Row) -> Vec<Graded> {
    let one = |prediction: &String| {
        let taken = solution::answer_in(row.grader, prediction);
        let verdict = grade(row.grader, taken, &row.answers);
        let squad = (row.grader == Grader::Qa)
            .then(|| (qa::best_f1(taken, &row.answers), qa::any_exact_match(taken, &row.answers)));
        let taken = (taken != prediction.trim()).then(|| taken.to_owned());
        Graded { taken, verdict, squad, opinion: None }
    };
    row.predictions.iter().map(one).collect()
}
