//! What does a file of questions hold, and what is wrong with it?

use std::path::{Path, PathBuf};

use aepo::data::files::Shape;
use aepo::data::files::task_file::{At, Reader, TaskFile, TasksError};
use aepo::data::same::{Meeting, duplicates, folded, meetings};
use aepo::data::survey::Survey;
use aepo::data::task::Task;
use aepo::score::reward::accuracy;
use aepo_tools::rows::{Found, Rows, detect};

use super::{CheckArgs, report};
use crate::progress::print;

/// Everything that is known of a file.
pub struct Look {
    pub path: PathBuf,
    pub survey: Survey,
    /// What could be read of it; none where it has no rows.
    pub found: Option<TaskFile>,
    /// Rows that are no questions, and why.
    pub faults: Vec<(At, String)>,
    /// Questions without what differs between copies of one.
    pub folded: Vec<String>,
    /// Places in `found.tasks` of questions that are the same.
    pub duplicates: Vec<Vec<usize>>,
    /// Places in `found.tasks`, with the accepted answer that does not count as right.
    pub ungraded: Vec<(usize, String)>,
    /// What it shares with other files.
    pub against: Vec<Against>,
}

/// What a file shares with another.
pub struct Against {
    pub path: PathBuf,
    pub n_rows: usize,
    /// Where in this file, where in the other, and how.
    pub meetings: Vec<(At, At, Meeting)>,
}

/// Reports on each file; something that is wrong is an error.
pub fn check(args: &CheckArgs) -> anyhow::Result<()> {
    let shape = args.layout.shape()?;
    let mut others = Vec::new();
    for path in &args.against {
        others.push(look(path, None)?);
    }
    let mut wrong = Vec::new();
    for path in &args.files {
        let mut looked = look(path, shape.as_ref())?;
        for other in &others {
            looked.against.push(against(&looked, other));
        }
        print(&if args.json { report::json(&looked) } else { report::people(&looked) })?;
        let said = report::wrong(&looked);
        if !said.is_empty() {
            wrong.push(format!("{}: {}", path.display(), said.join(", ")));
        }
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(anyhow::anyhow!(wrong.join("; "))),
    }
}

/// Reads a file to its end, whatever its rows are.
fn look(path: &Path, shape: Option<&Shape>) -> anyhow::Result<Look> {
    let mut rows = Rows::open(path)?;
    let (mut survey, mut faults, mut reader) = (Survey::default(), Vec::new(), None::<Reader>);
    let mut n_no_rows = 0;
    while let Some(Found { at, row }) = rows.next_row()? {
        let row = match row {
            Ok(row) => row,
            Err(why) => {
                n_no_rows += 1;
                faults.push((at, why));
                continue;
            }
        };
        survey.add(&row);
        let reader = match &mut reader {
            Some(reader) => reader,
            none => {
                let shape = shape.map_or_else(|| detect(path, &row), |shape| Ok(shape.clone()))?;
                none.insert(Reader::new(&path.display().to_string(), shape))
            }
        };
        match reader.push(at, &row) {
            Ok(()) => {}
            Err(TasksError::BadRow { fault, .. }) => faults.push((at, fault.to_string())),
            Err(error) => return Err(error.into()),
        }
    }
    let mut found = reader.map(Reader::so_far);
    if let Some(found) = &mut found {
        found.n_rows += n_no_rows;
    }
    let tasks = found.as_ref().map(|found| &found.tasks[..]).unwrap_or_default();
    let folded: Vec<String> = tasks.iter().map(|task| folded(&task.question)).collect();
    let ungraded = tasks.iter().enumerate().filter_map(|(i, task)| Some((i, ungraded(task)?))).collect();
    let duplicates = duplicates(&folded);
    Ok(Look { path: path.to_owned(), survey, faults, folded, duplicates, ungraded, against: Vec::new(), found })
}

/// The first accepted answer that the task's own grader does not call right.
fn ungraded(task: &Task) -> Option<String> {
    task.answers.iter().find(|answer| accuracy(task, answer) < 1.0).cloned()
}

/// What two files share.
fn against(looked: &Look, other: &Look) -> Against {
    let places = |look: &Look| look.found.as_ref().map(|found| found.places.clone()).unwrap_or_default();
    let (here, there) = (places(looked), places(other));
    let met = meetings(&looked.folded, &other.folded);
    let meetings = met.into_iter().map(|(i, j, how)| (here[i], there[j], how)).collect();
    let n_rows = other.found.as_ref().map_or(0, |found| found.n_rows);
    Against { path: other.path.clone(), n_rows, meetings }
}
