//! How did the papers evaluate, and what did they find? Their settings in one name, their figures with their places.

/// A paper whose evaluation can be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Paper {
    /// Agentic Entropy-Balanced Policy Optimization, arXiv 2510.14545.
    Aepo,
    /// Agentic Reinforced Policy Optimization, arXiv 2507.19849.
    Arpo,
}

/// One number of a paper.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Published {
    /// Which paper.
    pub paper: Paper,
    /// The model that it trained.
    pub model: &'static str,
    /// Name of the benchmark in the table of benchmarks.
    pub benchmark: &'static str,
    /// Answers per question: 1 is the set's metric, more are Pass@k.
    pub k: usize,
    /// Per cent.
    pub percent: f64,
    /// Where it stands.
    pub place: &'static str,
}

impl Paper {
    /// The name in commands.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Paper::Aepo => "aepo",
            Paper::Arpo => "arpo",
        }
    }

    /// How people cite it.
    #[must_use]
    pub fn cite(self) -> &'static str {
        match self {
            Paper::Aepo => "AEPO, arXiv 2510.14545",
            Paper::Arpo => "ARPO, arXiv 2507.19849",
        }
    }

    /// Settings of both papers' evaluations, as keys and values of a recipe: temperature 0.6 and nucleus mass 0.95 (ARPO,
    /// section 4.4), at most 5 programs and 10 searches per answer, five answers per question for Pass@1 to Pass@5.
    #[must_use]
    pub fn settings(self) -> &'static [(&'static str, &'static str)] {
        &[
            ("eval.temperature", "0.6"),
            ("eval.top_p", "0.95"),
            ("eval.samples", "5"),
            // Five and ten; pages that are read count as neither, and are bounded by the whole.
            ("rollout.call_limit", "20"),
            ("eval.python_calls", "5"),
            ("eval.search_calls", "10"),
        ]
    }

    /// Its figures, by model and set.
    pub fn figures(self) -> impl Iterator<Item = Published> {
        let of_row = move |(model, place, k, figures): &Row| {
            let (model, place, k) = (*model, *place, *k);
            let figure = move |(benchmark, percent): &(&'static str, f64)| Published {
                paper: self,
                model,
                benchmark,
                k,
                percent: *percent,
                place,
            };
            figures.iter().map(figure).collect::<Vec<Published>>()
        };
        let rows = match self {
            Paper::Aepo => AEPO,
            Paper::Arpo => ARPO,
        };
        rows.iter().flat_map(of_row)
    }
}

/// Model, place, k, and per cent by benchmark.
type Row = (&'static str, &'static str, usize, &'static [(&'static str, f64)]);

const AEPO: &[Row] = &[
    ("Qwen3-14B", "abstract", 1, &[("gaia", 47.6), ("hle", 11.2), ("webwalkerqa", 43.0)]),
    ("Qwen3-14B", "abstract", 5, &[("gaia", 65.0), ("hle", 26.0), ("webwalkerqa", 70.0)]),
];

const ARPO: &[Row] = &[
    (
        "Qwen2.5-3B-Instruct",
        "table 1",
        1,
        &[
            ("aime24", 23.3),
            ("aime25", 20.0),
            ("math500", 71.4),
            ("gsm8k", 85.0),
            ("math", 82.5),
            ("webwalkerqa", 24.5),
            ("hotpotqa", 58.5),
            ("2wikimultihopqa", 67.4),
            ("musique", 28.7),
            ("bamboogle", 66.8),
        ],
    ),
    (
        "Llama3.1-8B-Instruct",
        "table 1",
        1,
        &[
            ("aime24", 23.3),
            ("aime25", 16.7),
            ("math500", 64.6),
            ("gsm8k", 88.0),
            ("math", 80.2),
            ("webwalkerqa", 30.5),
            ("hotpotqa", 65.4),
            ("2wikimultihopqa", 75.5),
            ("musique", 34.8),
            ("bamboogle", 73.8),
        ],
    ),
    (
        "Qwen2.5-7B-Instruct",
        "table 1",
        1,
        &[
            ("aime24", 30.0),
            ("aime25", 30.0),
            ("math500", 78.8),
            ("gsm8k", 92.2),
            ("math", 88.8),
            ("webwalkerqa", 26.0),
            ("hotpotqa", 58.8),
            ("2wikimultihopqa", 76.1),
            ("musique", 31.1),
            ("bamboogle", 71.5),
        ],
    ),
    ("Qwen3-8B", "table 2", 1, &[("gaia", 38.8), ("webwalkerqa", 30.5), ("hle", 8.8), ("xbench-deepsearch", 25.0)]),
    ("Qwen3-14B", "table 2", 1, &[("gaia", 43.7), ("webwalkerqa", 36.0), ("hle", 10.0), ("xbench-deepsearch", 32.0)]),
    ("Qwen3-14B", "section 4.6", 5, &[("gaia", 61.2), ("hle", 24.0), ("xbench-deepsearch", 59.0)]),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::data::benchmark;

    #[test]
    fn settings_are_settings_and_sets_are_sets() {
        for paper in [Paper::Aepo, Paper::Arpo] {
            let sets: Vec<(String, String)> =
                paper.settings().iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            let config = Config::resolve("", "empty", &sets).unwrap();
            let drive = config.eval_drive_settings();
            assert_eq!((drive.k, drive.params.temperature, drive.params.top_p), (5, 0.6, 0.95));
            assert_eq!((drive.limits.n_python, drive.limits.n_search), (5, 10));
            for figure in paper.figures() {
                assert!(benchmark::find(figure.benchmark).is_some_and(|b| b.name == figure.benchmark), "{figure:?}");
                assert!(figure.percent > 0.0 && figure.percent < 100.0 && figure.k <= 5);
            }
        }
        assert_eq!((Paper::Aepo.figures().count(), Paper::Arpo.figures().count()), (6, 41));
    }
}
