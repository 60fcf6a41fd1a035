//! What does somebody get to read?

use std::process::Stdio;

use expect_test::expect;

use crate::support::{place, stderr};

#[test]
fn help_teaches() {
    expect![[r#"
        Train, evaluate and inspect tool-using language-model agents with AEPO (arXiv 2510.14545)

        Usage: aepo <COMMAND>

        Commands:
          train    Train an agent by reinforcement learning and measure it before and after
          sft      Teach a model by example: generated demonstrations or a file of conversations (the cold start)
          compare  Train several algorithms on the same tasks, budget and seeds, and report how they differ
          eval     Measure a model on questions, or on benchmarks
          score    Grade predictions from standard input
          serve    Offer a model to other programs over OpenAI's API, until interrupted
          rollout  Sample one tree of trajectories and print it
          show     Show how a run went
          check    Print every setting of a recipe with its meaning, or say what is wrong with it
          doctor   Say what this machine offers to a sandbox, and how it could offer more
          tool     Use one tool by itself, as an agent would, or offer tools to other programs
          index    Make an index of texts to search in, or verify one
          data     List benchmarks, check files of questions, or convert them
          algo     Show what each algorithm computes, and compute it on numbers
          cache    Look into a cache of tool results, or take over answers from elsewhere
          help     Print this message or the help of the given subcommand(s)

        Options:
          -h, --help     Print help
          -V, --version  Print version

        Start here:
          aepo train quickstart              train a small agent on this machine's CPU; ends with a before/after table
          aepo show runs/quickstart-seed1    what happened, step by step
          aepo rollout quickstart            one tree of trajectories: forks, entropies, tool calls, rewards
          aepo check quickstart              every setting, what it means and where it comes from

        A recipe is `quickstart` or the path of a TOML file; any setting of it can be changed by --set, for example
          aepo train quickstart --set algorithm.name=grpo --set train.learning_rate=1e-4

        Exit codes: 0 done, 1 failed while running, 2 wrong command line or recipe, 130 interrupted.
    "#]]
    .assert_eq(&place().ok(&["--help"]));
    expect![[r#"
        Train an agent by reinforcement learning and measure it before and after

        Usage: aepo train [OPTIONS] <RECIPE>

        Arguments:
          <RECIPE>  `quickstart`, or the path of a recipe

        Options:
              --seed <N>         Seed of the run; stands for train.seed
              --steps <N>        Training steps; stands for train.steps
              --out <DIR>        Run directory [default: runs/RECIPE-seedN]
              --set <KEY=VALUE>  Change a setting of the recipe, `section.key=value`; may be repeated (see `aepo check`)
              --threads <N>      Threads of the engine, 0 for every core; stands for train.threads
              --resume           Go on with the run in its directory
              --offline          Use no network: a model of the hub must be in the cache (so does HF_HUB_OFFLINE=1)
          -q, --quiet            No progress, only the result
              --json             One JSON object per line on stdout, and nothing else
              --stop-on-eof      Stop as after Ctrl-C when standard input ends: for a program that looks after this one
          -h, --help             Print help

        Examples:
          aepo train quickstart
          aepo train quickstart --seed 2 --set rollout.k=16
          aepo train my-recipe.toml --out runs/mine
          aepo train quickstart --resume            go on after Ctrl-C, a crash or a power cut

        Ctrl-C stops at a safe point, writes a checkpoint and says how to resume; the resumed run gives the numbers that an
        uninterrupted one would have given. A second Ctrl-C stops at once and loses only the steps since the last checkpoint.
    "#]].assert_eq(&place().ok(&["train", "--help"]));
}

#[test]
fn check_prints_a_recipe_that_means_the_same() {
    let place = place();
    let text = place.ok(&["check", "quickstart", "--set", "rollout.k=5"]);
    assert!(text.contains("# Trajectories per task, the leaves of its tree (k). (--set)\nk = 5\n"), "{text}");
    assert!(text.contains("# initial_rollouts has no effect"), "{text}");
    std::fs::write(place.path("printed.toml"), &text).unwrap();
    let again = place.ok(&["check", "printed.toml"]);
    let values = |text: &str| text.lines().filter(|l| !l.starts_with('#')).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(values(&again), values(&text));
}

#[test]
fn another_algorithm_is_one_setting() {
    let place = place();
    let text = place.ok(&["check", "quickstart", "--set", "algorithm.name=grpo"]);
    for key in ["rollout.beta", "rollout.gamma", "advantage.entropy_weight"] {
        assert!(text.contains(&format!("`{key}` is left out: ")), "{key}\n{text}");
    }
    assert!(text.contains("\nname = \"grpo\"\n"), "{text}");
    // By itself a recipe may not hold what has no effect.
    let mixed = "[algorithm]\nname = \"grpo\"\n[rollout]\nbeta = 1.0\n";
    std::fs::write(place.path("mixed.toml"), mixed).unwrap();
    let output = place.run(&["check", "mixed.toml", "--set", "train.steps=3"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("mixed.toml, line 4: `rollout.beta` has no effect"), "{}", stderr(&output));
}

#[test]
fn show_prints_steps_result_and_settings() {
    let text = place().ok(&["show", "whole"]);
    for expected in ["step  reward", "pass@1", "before", "rollout.k = 4  (default 16)", "\nreward  "] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    let tools = text.lines().skip_while(|l| !l.starts_with("Tools since")).nth(1).unwrap_or_default();
    assert!(tools.starts_with("  python: ") && tools.contains(" made, 0 from the cache, "), "{text}");
    let rows = text.lines().skip_while(|l| !l.starts_with("step")).skip(1).take_while(|l| !l.is_empty()).count();
    assert_eq!(rows, 6);
    let few = place().ok(&["show", "whole", "--rows", "3"]);
    let steps = few.lines().skip_while(|l| !l.starts_with("step")).skip(1).take(3);
    assert_eq!(steps.map(|l| l.split(' ').next().unwrap()).collect::<Vec<_>>(), ["0", "2", "5"]);
    let cold = place().ok(&["show", "cold"]);
    assert!(cold.contains("loss") && cold.contains("The model is in cold/model"), "{cold}");
}

#[test]
fn a_tree_is_printed_with_its_calls_forks_and_rewards() {
    let place = place();
    let args = ["rollout", "whole", "--split", "train", "--task", "3"];
    let text = place.ok(&args);
    let json = place.ok(&[&args[..], &["--json"]].concat());
    let tree: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(!text.contains('\x1b'), "colours are for terminals");
    let leaves = tree["leaves"].as_array().unwrap();
    assert_eq!(leaves.len(), 4);
    assert_eq!(text.matches("= path ").count(), 4);
    assert!(text.contains(tree["task"]["question"].as_str().unwrap()));
    let calls = tree["nodes"].as_array().unwrap().iter().filter(|node| node.get("call").is_some()).count();
    assert_eq!(text.lines().filter(|l| l.contains(" ms: <result>")).count(), calls, "{text}");
    assert_eq!(text.matches("? H ").count(), tree["decisions"].as_array().unwrap().len());
    for leaf in leaves {
        assert!(text.contains(&format!("reward {:.2}", leaf["score"]["reward"].as_f64().unwrap())));
    }
    let asked = place.ok(&["rollout", "whole", "--question", "Calculate 2 + 2."]);
    assert!(asked.contains("Calculate 2 + 2.") && !asked.contains("reward"), "{asked}");
}

#[test]
fn lines_and_json_say_every_step_and_quiet_says_nothing() {
    let place = place();
    let train = |out: &str, how: &[&str]| {
        let args = ["train", "tiny.toml", "--steps", "2", "--out", out];
        place.run(&[&args[..], how].concat())
    };
    let lines = stderr(&train("lines", &[]));
    assert_eq!(lines.lines().filter(|l| l.starts_with("step ")).count(), 2, "{lines}");
    let json = train("json", &["--json"]);
    assert_eq!(stderr(&json), "");
    let events: Vec<String> = String::from_utf8(json.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["event"].as_str().unwrap().to_owned())
        .collect();
    assert!(events.iter().any(|e| e == "stage"), "{events:?}");
    let facts = events.iter().map(String::as_str).filter(|e| !["note", "stage"].contains(e)).collect::<Vec<_>>();
    assert_eq!(facts, ["run", "eval", "step", "step", "checkpoint", "eval", "summary"]);
    let quiet = train("quiet", &["--quiet"]);
    assert_eq!(stderr(&quiet), "");
    assert!(String::from_utf8(quiet.stdout).unwrap().contains("pass@1"));
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let place = place();
    let mut child =
        place.command(&["check", "quickstart"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()));
}
