//! What is said of graded rows, and of all of them together?

use aepo::data::benchmark::{Benchmark, Metric};
use aepo::data::task::Grader;
use aepo::score::text::shown;
use aepo_tools::judge::Counts;
use serde_json::{Map, Value, json};

use super::Graded;
use super::input::Row;
use super::key::Coverage;
use crate::progress::print;
use crate::table::{percent, table};

/// Sums over the rows so far, and where they are written.
pub struct Told {
    json: bool,
    grader: Grader,
    /// Graders of the rows so far, which a benchmark may mix.
    used: Vec<&'static str>,
    benchmark: Option<&'static Benchmark>,
    judge: Option<String>,
    n_rows: u64,
    n_predictions: u64,
    /// Rows with a score.
    n_scored: u64,
    score: f64,
    /// Sums of the grader's own score, and of what it says is the same, each row counting once.
    graded: f64,
    exact: f64,
    /// Rows with F1 and exact match, and their sums.
    n_squad: u64,
    f1: f64,
    em: f64,
    /// Predictions by the judge's verdict (incorrect, correct) and whether the grader calls them exact.
    agreement: [[u64; 2]; 2],
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, n) = values.fold((0.0, 0u64), |(sum, n), value| (sum + value, n + 1));
    (n > 0).then(|| sum / n as f64)
}

fn one_if(is: bool) -> f64 {
    f64::from(u8::from(is))
}

impl Told {
    /// Begins to tell.
    pub fn begin(
        json: bool,
        grader: Grader,
        benchmark: Option<&'static Benchmark>,
        judge: Option<&str>,
    ) -> anyhow::Result<Told> {
        let told = Told {
            json,
            grader,
            used: Vec::new(),
            benchmark,
            judge: judge.map(str::to_owned),
            n_rows: 0,
            n_predictions: 0,
            n_scored: 0,
            score: 0.0,
            graded: 0.0,
            exact: 0.0,
            n_squad: 0,
            f1: 0.0,
            em: 0.0,
            agreement: [[0; 2]; 2],
        };
        if !json {
            print("score  row\n")?;
        }
        Ok(told)
    }

    /// Tells of one row, at once.
    pub fn row(&mut self, row: &Row, graded: &[Graded]) -> anyhow::Result<()> {
        let score = mean(graded.iter().filter_map(Graded::score));
        self.n_rows += 1;
        if !self.used.contains(&row.grader.name()) {
            self.used.push(row.grader.name());
        }
        self.n_predictions += graded.len() as u64;
        if let Some(score) = score {
            self.n_scored += 1;
            self.score += score;
        }
        self.graded += mean(graded.iter().map(|g| g.verdict.score)).unwrap_or(0.0);
        self.exact += mean(graded.iter().map(|g| one_if(g.verdict.exact))).unwrap_or(0.0);
        if let Some(f1) = mean(graded.iter().filter_map(|g| Some(g.squad?.0))) {
            self.n_squad += 1;
            self.f1 += f1;
            self.em += mean(graded.iter().filter_map(|g| Some(one_if(g.squad?.1)))).unwrap_or(0.0);
        }
        for one in graded {
            if let Some(correct) = one.opinion.as_ref().and_then(|opinion| opinion.correct) {
                self.agreement[usize::from(correct)][usize::from(one.verdict.exact)] += 1;
            }
        }
        match self.json {
            true => print(&format!("{}\n", object(row, graded, score))),
            false => print(&line(row, graded, score)),
        }
    }

    /// Who graded.
    fn graders(&self) -> String {
        match self.used.is_empty() {
            true => self.grader.name().to_owned(),
            false => self.used.join(", "),
        }
    }

    /// Tells of all rows together.
    pub fn end(&self, coverage: Option<Coverage>, counts: Option<Counts>) -> anyhow::Result<()> {
        let share = |sum: f64, n: u64| if n == 0 { Value::Null } else { json!(sum / n as f64) };
        if self.json {
            let mut summary = Map::new();
            let mut put = |key: &str, value: Value| summary.insert(key.to_owned(), value);
            put("grader", json!(self.graders()));
            if let Some(benchmark) = self.benchmark {
                put("benchmark", json!(benchmark.name));
            }
            put("n", json!(self.n_rows));
            put("n_predictions", json!(self.n_predictions));
            put("score", share(self.score, self.n_scored));
            put("exact", share(self.exact, self.n_rows));
            if self.n_squad > 0 {
                put("f1", share(self.f1, self.n_squad));
                put("em", share(self.em, self.n_squad));
            }
            if let Some(coverage) = coverage.filter(|coverage| coverage.n_tasks > 0) {
                put("n_questions", json!(coverage.n_tasks));
                put("n_questions_answered", json!(coverage.n_answered));
            }
            if let (Some(model), Some(counts)) = (&self.judge, counts) {
                put("grader_score", share(self.graded, self.n_rows));
                put("n_without_verdict", json!(self.n_rows - self.n_scored));
                let [[both_wrong, grader_only], [judge_only, both_right]] = self.agreement;
                let agreement = json!({
                    "both_right": both_right, "judge_only": judge_only, "grader_only": grader_only,
                    "both_wrong": both_wrong,
                });
                put("judge", json!({ "model": model, "counts": counts, "agreement": agreement }));
            }
            return print(&format!("{}\n", json!({ "summary": summary })));
        }
        print(&format!("\n{}", self.for_people(coverage, counts)))
    }

    fn for_people(&self, coverage: Option<Coverage>, counts: Option<Counts>) -> String {
        let share = |sum: f64, n: u64| if n == 0 { "–".to_owned() } else { percent(sum / n as f64) };
        let mut rows: Vec<Vec<String>> = Vec::new();
        let mut row = |name: &str, value: String| rows.push(vec![name.to_owned(), value]);
        row("rows", self.n_rows.to_string());
        if self.n_predictions != self.n_rows {
            row("predictions", self.n_predictions.to_string());
        }
        match &self.judge {
            Some(model) => row(&format!("right, says {model}"), share(self.score, self.n_scored)),
            None => row("mean score", share(self.score, self.n_scored)),
        }
        if self.judge.is_some() {
            row(&format!("mean score by {}", self.graders()), share(self.graded, self.n_rows));
        }
        row("the same as an accepted answer", share(self.exact, self.n_rows));
        if self.n_squad > 0 {
            row("token F1", share(self.f1, self.n_squad));
            row("exact match", share(self.em, self.n_squad));
        }
        let title = self.benchmark.map_or_else(|| self.graders(), |b| b.title.to_owned());
        let mut text = table(&[&title, ""], &rows);
        if let Some(coverage) = coverage.filter(|c| c.n_tasks > 0 && c.n_answered < c.n_tasks) {
            let Coverage { n_answered, n_tasks } = coverage;
            text += &format!("\nOnly {n_answered} of the file's {n_tasks} questions have a prediction.\n");
        }
        if let (Some(benchmark), None) = (self.benchmark, &self.judge)
            && benchmark.metric == Metric::Judge
        {
            text += &format!("\nPublished figures of {} are a judge's; see --judge.\n", benchmark.title);
        }
        if let Some(counts) = counts {
            text += &self.about_judge(counts);
        }
        text
    }

    fn about_judge(&self, counts: Counts) -> String {
        let [[both_wrong, grader_only], [judge_only, both_right]] =
            self.agreement.map(|row| row.map(|n| n.to_string()));
        let cells = |name: &str, right: String, wrong: String| vec![name.to_owned(), right, wrong];
        let rows =
            [cells("  calls the same", both_right, grader_only), cells("  calls different", judge_only, both_wrong)];
        let grader = format!("{} beside the judge", self.graders());
        let mut text = format!("\n{}", table(&[&grader, "correct", "incorrect"], &rows));
        let Counts { judged, cached, failed, asked_again } = counts;
        text += &format!(
            "\nverdicts given: {judged}, known from before: {cached}, missing: {failed}; replies asked for again: {asked_again}\n"
        );
        text
    }
}

/// What is said of a prediction, for programs.
fn one(graded: &Graded, into: &mut Map<String, Value>) {
    let mut put = |key: &str, value: Value| into.insert(key.to_owned(), value);
    put("score", json!(graded.score()));
    put("exact", json!(graded.verdict.exact));
    match &graded.opinion {
        None => put("why", json!(graded.verdict.why)),
        Some(opinion) => {
            put("why", json!(opinion.why));
            let verdict = opinion.correct.map(|correct| if correct { "correct" } else { "incorrect" });
            put("judge", json!({ "verdict": verdict, "cached": opinion.cached }));
            put("grader", json!({ "score": graded.verdict.score, "why": graded.verdict.why }))
        }
    };
    if let Some((f1, em)) = graded.squad {
        put("f1", json!(f1));
        put("em", json!(em));
    }
    if let Some(taken) = &graded.taken {
        put("taken", json!(taken));
    }
}

fn object(row: &Row, graded: &[Graded], score: Option<f64>) -> Value {
    let mut object = Map::new();
    if let Some(id) = &row.id {
        object.insert("id".to_owned(), id.clone());
    }
    match graded {
        [only] if !row.is_list => one(only, &mut object),
        several => {
            object.insert("score".to_owned(), json!(score));
            object.insert("exact".to_owned(), json!(mean(several.iter().map(|g| one_if(g.verdict.exact)))));
            object.insert("why".to_owned(), json!(format!("the mean of {} predictions", several.len())));
            let each = several.iter().map(|graded| {
                let mut object = Map::new();
                one(graded, &mut object);
                Value::Object(object)
            });
            object.insert("predictions".to_owned(), each.collect());
        }
    }
    Value::Object(object)
}

/// What is said of a row, for people.
fn line(row: &Row, graded: &[Graded], score: Option<f64>) -> String {
    let score = score.map_or_else(|| "–".to_owned(), |score| format!("{score:.2}"));
    let name = match &row.id {
        Some(Value::String(id)) => shown(id),
        Some(id) => id.to_string(),
        None => row.line.to_string(),
    };
    let why = match graded {
        [only] => match &only.opinion {
            Some(opinion) if opinion.correct.is_none() => format!("no verdict: {}", opinion.why),
            Some(opinion) => format!("judge: {}", opinion.why),
            None => only.verdict.why.clone(),
        },
        several => format!("the mean of {} predictions", several.len()),
    };
    format!("{score:>5}  {name}: {}\n", why.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>())
}
