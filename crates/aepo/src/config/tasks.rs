//! How are files of questions laid out, by a recipe?

use toml::Value;

use super::Config;
use super::value::Setting;
use crate::data::benchmark::{self, Benchmark};
use crate::data::files::fields::GraderField;
use crate::data::files::{Fields, Shape};
use crate::data::task::Grader;

/// What a recipe says of the layout of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskLayout {
    /// The fields that `[tasks.fields]` names, where it does; else what the file's name and first row tell.
    Auto,
    /// Our own.
    Tasks,
    /// verl's.
    Verl,
    /// The fields that `[tasks.fields]` names.
    Fields,
    /// A benchmark's.
    Benchmark(&'static Benchmark),
}

impl Setting for TaskLayout {
    const EXPECTED: &'static str =
        "\"auto\", \"tasks\", \"verl\", \"fields\" or the name of a benchmark (`aepo data list`)";
    fn read(value: &Value) -> Option<Self> {
        Some(match value.as_str()? {
            "auto" => TaskLayout::Auto,
            "tasks" => TaskLayout::Tasks,
            "verl" => TaskLayout::Verl,
            "fields" => TaskLayout::Fields,
            name => TaskLayout::Benchmark(benchmark::find(name)?),
        })
    }
    fn write(&self) -> Option<Value> {
        let name = match self {
            TaskLayout::Auto => "auto",
            TaskLayout::Tasks => "tasks",
            TaskLayout::Verl => "verl",
            TaskLayout::Fields => "fields",
            TaskLayout::Benchmark(benchmark) => benchmark.name,
        };
        Some(Value::String(name.to_owned()))
    }
}

impl Setting for Grader {
    const EXPECTED: &'static str = "\"math\", \"qa\", \"choice\" or \"gaia\"";
    fn read(value: &Value) -> Option<Self> {
        Grader::named(value.as_str()?)
    }
    fn write(&self) -> Option<Value> {
        Some(Value::String(self.name().to_owned()))
    }
}

impl Config {
    /// How a file of that layout is read; `None` leaves it to the file.
    #[must_use]
    pub fn task_shape(&self, layout: TaskLayout) -> Option<Shape> {
        match layout {
            TaskLayout::Auto | TaskLayout::Fields => self.named_fields().map(Shape::Fields),
            TaskLayout::Tasks => Some(Shape::Tasks),
            TaskLayout::Verl => Some(Shape::Verl { grader: self.tasks.grader }),
            TaskLayout::Benchmark(benchmark) => Some(Shape::Benchmark(benchmark)),
        }
    }

    /// The fields that the recipe names; it was checked that they say how to grade.
    fn named_fields(&self) -> Option<Fields> {
        let named = &self.task_fields;
        let grader = match (self.tasks.grader, &named.grader) {
            (Some(grader), _) => GraderField::Always(grader),
            (None, Some(field)) => GraderField::In(field.clone()),
            (None, None) => return None,
        };
        let (question, answers) = (named.question.clone()?, named.answers.clone()?);
        Some(Fields { question, answers, id: named.id.clone(), kind: named.kind.clone(), grader })
    }

    fn layouts(&self) -> [TaskLayout; 2] {
        [self.tasks.layout, self.tasks.eval_layout]
    }

    /// Whether a file is read by the fields that are named.
    fn reads_fields(&self) -> bool {
        self.task_fields.question.is_some()
            && self.layouts().iter().any(|layout| matches!(layout, TaskLayout::Auto | TaskLayout::Fields))
    }
}

/// Why nothing would read a key of `[tasks]` or `[tasks.fields]` under the other settings.
pub(super) fn no_effect(c: &Config, path: &str) -> Option<String> {
    let generated = c.tasks.source == "quickstart";
    let (when, why) = match path {
        "tasks.eval_file" => (generated, "the quickstart draws its own held-out questions"),
        "tasks.seed" => (!generated, "tasks.source is a file"),
        "tasks.n_train" => (false, ""),
        _ if path.starts_with("tasks.") && path != "tasks.source" && generated => {
            (true, "the quickstart generates its questions, and no file is read")
        }
        "tasks.grader" => (
            !c.reads_fields() && !c.layouts().contains(&TaskLayout::Verl),
            "no [tasks.fields] are read and no layout is \"verl\": the rows say how they are graded",
        ),
        "tasks.fields.grader" if c.tasks.grader.is_some() => (true, "tasks.grader holds for every row"),
        "tasks.fields.question" => (!c.reads_fields(), "tasks.layout and tasks.eval_layout name other layouts"),
        _ if path.starts_with("tasks.fields.") => {
            (!c.reads_fields(), "tasks.fields.question is not set, or no layout reads fields")
        }
        _ => (false, ""),
    };
    when.then(|| why.to_owned())
}

/// Values that are each possible but not together: the key to change, and what it must be.
pub(super) fn contradiction(c: &Config) -> Option<(&'static str, &'static str)> {
    let named = &c.task_fields;
    let wrong = [
        (
            c.tasks.source != "quickstart" && c.tasks.eval_file.is_none(),
            "tasks.eval_file",
            "set where tasks.source is a file: training questions are never used to evaluate",
        ),
        (
            c.layouts().contains(&TaskLayout::Fields) && named.question.is_none(),
            "tasks.fields.question",
            "set where a layout is \"fields\"",
        ),
        (c.reads_fields() && named.answers.is_none(), "tasks.fields.answers", "set where tasks.fields.question is"),
        (
            c.reads_fields() && c.tasks.grader.is_none() && named.grader.is_none(),
            "tasks.grader",
            "set where tasks.fields.question is, or else tasks.fields.grader: rows are compared by something",
        ),
    ];
    wrong.into_iter().find(|(wrong, ..)| *wrong).map(|(_, path, wanted)| (path, wanted))
}

#[cfg(test)]
mod tests {
    use super::super::ConfigError;
    use super::*;

    fn resolve(sets: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let file = [("tasks.source", "a.csv"), ("tasks.eval_file", "b.jsonl")];
        let sets: Vec<(String, String)> =
            file.iter().chain(sets).map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Config::resolve("", "r.toml", &sets)
    }

    const FIELDS: [(&str, &str); 3] =
        [("tasks.fields.question", "q"), ("tasks.fields.answers", "a"), ("tasks.grader", "qa")];

    #[test]
    fn a_recipe_names_fields_or_a_layout_or_leaves_it_to_the_file() {
        let c = resolve(&[]).unwrap();
        assert_eq!((c.task_shape(c.tasks.layout), c.task_shape(c.tasks.eval_layout)), (None, None));
        let c = resolve(&[&FIELDS[..], &[("tasks.eval_layout", "gsm8k")]].concat()).unwrap();
        let Some(Shape::Fields(fields)) = c.task_shape(c.tasks.layout) else { panic!() };
        assert_eq!((fields.question.as_str(), &fields.grader), ("q", &GraderField::Always(Grader::Qa)));
        assert_eq!(c.task_shape(c.tasks.eval_layout).map(|shape| shape.name()).as_deref(), Some("gsm8k"));
        let c = resolve(&[("tasks.layout", "verl"), ("tasks.grader", "math")]).unwrap();
        assert_eq!(c.task_shape(c.tasks.layout), Some(Shape::Verl { grader: Some(Grader::Math) }));
        let text = c.to_toml();
        assert_eq!(Config::resolve(&text, "again", &[]).unwrap().to_toml(), text);
    }

    #[test]
    fn layouts_that_cannot_be_read_are_refused() {
        let refused = |sets: &[(&str, &str)]| resolve(sets).unwrap_err().to_string();
        for (sets, why) in [
            (&[("tasks.layout", "sudoku")][..], "the name of a benchmark"),
            (&[("tasks.layout", "fields")], "`tasks.fields.question`"),
            (&FIELDS[..1], "`tasks.fields.answers`"),
            (&FIELDS[..2], "`tasks.grader`"),
            (&FIELDS[1..2], "tasks.fields.question is not set"),
            (&FIELDS[2..], "the rows say how they are graded"),
            (&[("tasks.grader", "f1")], "\"choice\" or \"gaia\""),
        ] {
            let said = refused(sets);
            assert!(said.contains(why), "{said}");
        }
        let said = refused(&[&FIELDS[..], &[("tasks.fields.grader", "g")]].concat());
        assert!(said.contains("tasks.grader holds for every row"), "{said}");
        let said = refused(&[&FIELDS[..], &[("tasks.layout", "verl"), ("tasks.eval_layout", "verl")]].concat());
        assert!(said.contains("has no effect: tasks.layout and tasks.eval_layout name other layouts"), "{said}");
        let quickstart = [("tasks.layout".to_owned(), "verl".to_owned())];
        let said = Config::resolve("", "r.toml", &quickstart).unwrap_err().to_string();
        assert!(said.contains("no file is read"), "{said}");
    }

    #[test]
    fn tools_of_benchmarks_can_be_offered() {
        for benchmark in benchmark::BENCHMARKS {
            let names: Vec<&str> = benchmark.tools.iter().map(|tool| tool.name()).collect();
            let known = super::super::tools::Offered::ALL.map(|offered| offered.name());
            assert!(!names.is_empty() && names.iter().all(|name| known.contains(name)), "{}", benchmark.name);
        }
    }
}
