//! Who judges predictions, if anybody does?

use std::path::PathBuf;

use aepo_tools::judge::{Case, Counts, Judge, JudgeSettings, Ruling};
use aepo_tools::llm::LlmSettings;
use anyhow::Context as _;
use clap::Args;

use super::Graded;
use super::input::Row;
use crate::error::usage;
use crate::machine::certificates;

/// Rows that are read for each case that a judge has at once, so that it does not wait for the slowest.
const ROWS_PER_JOB: usize = 4;

#[derive(Debug, Args)]
pub struct JudgeArgs {
    /// Have a served model decide: its OpenAI-compatible address, up to and with the version
    #[arg(long = "judge", value_name = "URL", requires = "judge_model")]
    pub url: Option<String>,
    /// The name under which it is served
    #[arg(long, value_name = "NAME", requires = "url")]
    pub judge_model: Option<String>,
    /// The variable of the environment that holds its key
    #[arg(long, value_name = "VAR", requires = "url")]
    pub judge_key_env: Option<String>,
    /// Where its verdicts are kept, so that none is asked for twice
    #[arg(long, value_name = "FILE", requires = "url", default_value = "runs/judge.redb")]
    pub judge_cache: PathBuf,
    /// Cases it is given at once
    #[arg(long, value_name = "N", requires = "url", default_value_t = 8)]
    pub judge_jobs: usize,
    /// Time for one case, with every request of it
    #[arg(long, value_name = "S", requires = "url", default_value_t = 120.0)]
    pub judge_secs: f64,
}

/// What a judge says of a prediction.
pub struct Opinion {
    /// `None` where it gave no verdict.
    pub correct: Option<bool>,
    /// Its reason, or why there is none.
    pub why: String,
    /// Whether it was known from before.
    pub cached: bool,
}

/// A judge at work.
pub struct Judging {
    judge: Judge,
    model: String,
    n_jobs: usize,
}

impl JudgeArgs {
    /// Gets ready to ask; `None` where no judge was asked for.
    pub fn start(&self) -> anyhow::Result<Option<Judging>> {
        let (Some(url), Some(model)) = (&self.url, &self.judge_model) else { return Ok(None) };
        if !(1..=256).contains(&self.judge_jobs) {
            return Err(usage("--judge-jobs must be from 1 to 256", ""));
        }
        if !(self.judge_secs > 0.0 && self.judge_secs <= 3600.0) {
            return Err(usage("--judge-secs must be more than 0 and at most 3600", ""));
        }
        if let Some(folder) = self.judge_cache.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        }
        let mut llm = LlmSettings::of(url.clone(), model.clone());
        llm.key_env = self.judge_key_env.clone();
        llm.certificates = certificates();
        let cache = Some(self.judge_cache.clone());
        let settings = JudgeSettings { llm, secs: self.judge_secs, n_at_once: self.judge_jobs, cache };
        Ok(Some(Judging { judge: Judge::new(&settings)?, model: model.clone(), n_jobs: self.judge_jobs }))
    }
}

impl Judging {
    /// Its name.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Rows that it is given together.
    pub fn n_at_once(&self) -> usize {
        ROWS_PER_JOB * self.n_jobs
    }

    /// What was done so far.
    pub fn counts(&self) -> Counts {
        self.judge.counts()
    }

    /// Its rulings on cases, in their order.
    pub fn rulings(&self, cases: &[Case]) -> anyhow::Result<Vec<Ruling>> {
        Ok(self.judge.judge(cases)?)
    }

    /// Adds its opinions to what the grader said.
    pub fn judge(&self, rows: &[Row], graded: &mut [Vec<Graded>]) -> anyhow::Result<()> {
        let case = |row: &Row, prediction: &String, graded: &Graded| Case {
            question: row.question.clone(),
            prediction: graded.taken.as_ref().unwrap_or(prediction).clone(),
            references: row.answers.clone(),
        };
        let of_row = |(row, graded): (&'_ Row, &'_ Vec<Graded>)| -> Vec<Case> {
            row.predictions.iter().zip(graded).map(|(prediction, graded)| case(row, prediction, graded)).collect()
        };
        let cases: Vec<Case> = rows.iter().zip(&*graded).flat_map(of_row).collect();
        let rulings = self.judge.judge(&cases)?;
        for (graded, ruling) in graded.iter_mut().flatten().zip(rulings) {
            graded.opinion = Some(match ruling {
                Ruling::Verdict { correct, reason, cached } => Opinion { correct: Some(correct), why: reason, cached },
                Ruling::NoVerdict { why } => Opinion { correct: None, why, cached: false },
            });
        }
        Ok(())
    }
}
