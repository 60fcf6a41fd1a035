//! How does a row become a task whose fields somebody has named?

use super::lookup::{Fault, Row, first, missing, text, texts};
use super::repair::Repairs;
use super::{Taken, mended};
use crate::data::task::{Grader, Task};

/// Which fields of a row make a task. A dot in a name goes into an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    /// What is asked.
    pub question: String,
    /// The accepted answer, or a list of them.
    pub answers: String,
    /// The row's name; `None` to number the rows.
    pub id: Option<String>,
    /// Under what its result is also reported; `None` for one kind, "all".
    pub kind: Option<String>,
    /// How answers are compared.
    pub grader: GraderField,
}

/// Where it stands how answers are compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GraderField {
    /// All rows alike.
    Always(Grader),
    /// In this field of each row.
    In(String),
}

impl Fields {
    /// Reads the `n`-th row of a file, counted from 1.
    pub fn task(&self, row: &Row, n: u64) -> Result<Taken, Fault> {
        let value = |name: &str| first(row, &[name]).map(|(_, value)| value).ok_or_else(|| missing(&[name]));
        let mut repairs = Repairs::default();
        let question = mended(&text(&self.question, value(&self.question)?)?, &self.question, &mut repairs)?;
        let answers = texts(&self.answers, value(&self.answers)?)?;
        let mend = |answer: &String| mended(answer, &self.answers, &mut repairs);
        let answers = answers.iter().map(mend).collect::<Result<Vec<String>, Fault>>()?;
        let id = match &self.id {
            Some(name) => text(name, value(name)?)?,
            None => n.to_string(),
        };
        let kind = match &self.kind {
            Some(name) => text(name, value(name)?)?,
            None => "all".to_owned(),
        };
        let grader = match &self.grader {
            GraderField::Always(grader) => *grader,
            GraderField::In(name) => {
                let said = text(name, value(name)?)?;
                Grader::named(&said).ok_or_else(|| Fault::new(name, Grader::expected(&said)))?
            }
        };
        Ok(Taken::Task { task: Task { id, kind, question, answers, grader }, repairs })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn fields() -> Fields {
        Fields {
            question: "q".to_owned(),
            answers: "a.list".to_owned(),
            id: None,
            kind: Some("k".to_owned()),
            grader: GraderField::In("g".to_owned()),
        }
    }

    #[test]
    fn named_fields_make_a_task() {
        let row: Value = json!({"q": "Who?", "a": {"list": ["I", "me"]}, "k": 2, "g": "qa", "rest": []});
        let task = |fields: &Fields| match fields.task(row.as_object().unwrap(), 3).unwrap() {
            Taken::Task { task, .. } => task,
            Taken::LeftOut(why) => panic!("{why}"),
        };
        let read = task(&fields());
        assert_eq!((read.id.as_str(), read.kind.as_str(), read.grader), ("3", "2", Grader::Qa));
        assert_eq!(read.answers, ["I", "me"]);
        let always = Fields { grader: GraderField::Always(Grader::Gaia), kind: None, ..fields() };
        assert_eq!((task(&always).grader, task(&always).kind.as_str()), (Grader::Gaia, "all"));
    }

    #[test]
    fn faults_name_the_field_that_was_asked_for() {
        let said = |row: Value| fields().task(row.as_object().unwrap(), 1).unwrap_err().to_string();
        assert_eq!(said(json!({"q": 1})), "key a.list: missing");
        assert_eq!(said(json!({"q": "", "a": {"list": "x"}})), "key q: blank");
        let row = json!({"q": "?", "a": {"list": "x"}, "k": "k", "g": "f1"});
        assert_eq!(said(row), "key g: \"f1\" is none of \"math\", \"qa\", \"choice\" and \"gaia\"");
    }
}
