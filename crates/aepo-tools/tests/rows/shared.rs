//! Do the loaders give every row of the sets that lie beside a checkout? Skipped where they do not.

use std::path::PathBuf;

use aepo::data::benchmark;
use aepo::data::files::Shape;
use aepo::data::task::Grader;
use aepo::score::reward::accuracy;
use aepo_tools::rows::read_tasks;

/// The folder of shared data, or a line that says that there is none.
fn shared(test: &str) -> Option<PathBuf> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let dir = std::env::var_os("AEPO_SHARED_DATA").map_or_else(beside, PathBuf::from);
    if dir.join("benchmarks").is_dir() {
        return Some(dir);
    }
    eprintln!("skipped: {test}: there is no {}", dir.display());
    None
}

#[test]
fn whole_sets_have_all_their_rows() {
    let Some(dir) = shared("whole_sets_have_all_their_rows") else { return };
    let table = [
        ("gsm8k", 1319, Grader::Math),
        ("math500", 500, Grader::Math),
        ("aime24", 30, Grader::Math),
        ("hotpotqa", 200, Grader::Qa),
        ("2wiki", 200, Grader::Qa),
        ("musique", 200, Grader::Qa),
        ("SimpleQA", 500, Grader::Qa),
    ];
    for (name, n, grader) in table {
        let found = read_tasks(&dir.join(format!("benchmarks/{name}.jsonl")), None).unwrap();
        let benchmark = benchmark::find(name).unwrap();
        assert_eq!((found.tasks.len(), found.n_rows, found.left_out.len()), (n, n, 0), "{name}");
        assert!([benchmark.n_rows, benchmark.n_paper.unwrap_or(0)].contains(&n), "{name}");
        assert!(found.tasks.iter().all(|task| task.grader == grader && !task.answers.is_empty()), "{name}");
        assert_eq!((found.shape.clone(), found.repaired.len()), (Shape::Benchmark(benchmark), 0), "{name}");
    }
    let gsm8k = read_tasks(&dir.join("benchmarks/gsm8k.jsonl"), None).unwrap();
    assert!(gsm8k.tasks.iter().all(|task| task.answers[0].parse::<f64>().is_ok()));
}

#[test]
fn samples_of_the_other_sets_are_read() {
    let Some(dir) = shared("samples_of_the_other_sets_are_read") else { return };
    let mut n_samples = 0;
    for entry in std::fs::read_dir(dir.join("benchmarks")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.contains(".sample.") {
            let found = read_tasks(&path, None).unwrap_or_else(|error| panic!("{error}"));
            assert!(found.tasks.len() >= 2 && found.left_out.is_empty(), "{name}");
            n_samples += 1;
        }
    }
    assert_eq!(n_samples, 6);
    let hle = read_tasks(&dir.join("benchmarks/hle.sample.jsonl"), None).unwrap();
    assert_eq!(hle.tasks.iter().map(|task| task.grader).collect::<Vec<_>>()[..2], [Grader::Choice, Grader::Math]);
    let gaia = read_tasks(&dir.join("benchmarks/gaia.sample.jsonl"), None).unwrap();
    assert_eq!((gaia.tasks[0].kind.as_str(), gaia.tasks[0].grader), ("level 1", Grader::Gaia));
}

#[test]
fn accepted_answers_are_right_by_their_own_grader() {
    let Some(dir) = shared("accepted_answers_are_right_by_their_own_grader") else { return };
    let mut n_answers = 0;
    for entry in std::fs::read_dir(dir.join("benchmarks")).unwrap() {
        let found = read_tasks(&entry.unwrap().path(), None).unwrap();
        for task in &found.tasks {
            for answer in &task.answers {
                assert_eq!(accuracy(task, answer), 1.0, "{} {}: {answer}", found.shape.name(), task.id);
                n_answers += 1;
            }
        }
    }
    assert!(n_answers > 3000, "{n_answers}");
}

#[test]
fn the_training_set_is_read_and_repaired() {
    let Some(dir) = shared("the_training_set_is_read_and_repaired") else { return };
    let valid = read_tasks(&dir.join("verl/valid.parquet"), None).unwrap();
    assert_eq!((valid.tasks.len(), valid.n_rows, valid.repaired.len()), (180, 180, 180));
    let train = read_tasks(&dir.join("verl/train_10k.parquet"), None).unwrap();
    assert_eq!(train.n_rows, 10_000);
    // One row says what to answer nowhere.
    assert_eq!((train.tasks.len(), train.left_out.len(), train.repaired.len()), (9999, 1, 9999));
    let held = |grader| train.tasks.iter().filter(|task| task.grader == grader).count();
    assert_eq!(held(Grader::Math) + held(Grader::Qa), 9999);
    assert!(train.tasks.iter().all(|task| !task.question.chars().any(|c| c.is_control() && !c.is_whitespace())));
    assert!(
        train
            .tasks
            .iter()
            .any(|task| task.question.contains("as $\\frac{m}{n}") || task.question.contains("\\frac{m}{n}, w"))
    );
}
