//! What is known of each benchmark?
//!
//! Fields are those of the sets as their authors published them and as the papers' evaluation has them. Numbers of rows
//! are the sets' own. What the papers' evaluation takes of them is known from its files (the four multi-hop sets,
//! SimpleQA), or concluded from tables 1 and 2 of arXiv 2507.19849, where the averages of what was trained there are
//! multiples of 1/103 (GAIA), of 0.2 % (Humanity's Last Exam) and of 0.5 % (WebWalkerQA).

use super::{Benchmark, GraderOf, Group, Layout, Metric, Taking, ToolKind};
use crate::data::task::Grader;

const PLAIN: Layout = Layout {
    question: &["question", "Question", "problem", "Problem", "prompt", "Prompt"],
    answers: &["answers", "answer", "golden_answers", "Answer"],
    aliases: &["answer_aliases", "aliases"],
    id: &["id", "ID", "_id", "idx", "unique_id"],
    kind: &[],
    attachments: &[],
    encrypted: false,
    taking: Taking::Whole,
    grader: GraderOf::Set,
};
const AIME: Layout = Layout { taking: Taking::Aime, ..PLAIN };
const MULTI_HOP: Layout = Layout { kind: &["type"], ..PLAIN };
const PYTHON: &[ToolKind] = &[ToolKind::Python];
const SEARCH: &[ToolKind] = &[ToolKind::Python, ToolKind::Search];
const WEB: &[ToolKind] = &[ToolKind::Python, ToolKind::Search, ToolKind::Visit];

/// Mathematics, graded by exact equality.
const MATH: Benchmark = Benchmark {
    name: "math",
    title: "MATH",
    aliases: &["hendrycks_math", "competition_math"],
    groups: &[Group::Math],
    layout: Layout {
        // A row with an answer of its own is believed; else the solution holds it in a box.
        answers: &["answer", "solution"],
        id: &["unique_id", "id"],
        kind: &["subject", "type", "level"],
        taking: Taking::Boxed,
        ..PLAIN
    },
    grader: Grader::Math,
    metric: Metric::Accuracy,
    tools: PYTHON,
    n_rows: 5000,
    n_paper: None,
    hub: "EleutherAI/hendrycks_math",
};

/// Questions over several articles.
const HOTPOTQA: Benchmark = Benchmark {
    name: "hotpotqa",
    title: "HotpotQA",
    aliases: &["hotpot", "hotpot_dev_distractor_v1", "hotpot_dev_fullwiki_v1"],
    groups: &[Group::Knowledge],
    layout: MULTI_HOP,
    grader: Grader::Qa,
    metric: Metric::F1,
    tools: SEARCH,
    n_rows: 7405,
    n_paper: Some(200),
    hub: "hotpotqa/hotpot_qa",
};

/// Questions for which the web is searched.
const SIMPLEQA: Benchmark = Benchmark {
    name: "simpleqa",
    title: "SimpleQA",
    aliases: &["simple_qa_test_set"],
    groups: &[Group::DeepSearch],
    layout: PLAIN,
    grader: Grader::Qa,
    metric: Metric::Judge,
    tools: WEB,
    n_rows: 4326,
    n_paper: Some(500),
    hub: "basicv8vc/SimpleQA",
};

/// Every benchmark, in the order of the papers.
pub const BENCHMARKS: &[Benchmark] = &[
    Benchmark {
        name: "aime24",
        title: "AIME 2024",
        aliases: &["aime2024"],
        layout: AIME,
        n_rows: 30,
        n_paper: Some(30),
        hub: "HuggingFaceH4/aime_2024",
        ..MATH
    },
    Benchmark {
        name: "aime25",
        title: "AIME 2025",
        aliases: &["aime2025"],
        layout: AIME,
        n_rows: 30,
        n_paper: Some(30),
        hub: "math-ai/aime25",
        ..MATH
    },
    Benchmark {
        name: "math500",
        title: "MATH500",
        aliases: &[],
        n_rows: 500,
        n_paper: Some(500),
        hub: "HuggingFaceH4/MATH-500",
        ..MATH
    },
    Benchmark {
        name: "gsm8k",
        title: "GSM8K",
        aliases: &["grade_school_math"],
        layout: Layout { taking: Taking::AfterHashes, ..PLAIN },
        n_rows: 1319,
        n_paper: Some(1319),
        hub: "openai/gsm8k",
        ..MATH
    },
    MATH,
    Benchmark {
        name: "webwalkerqa",
        title: "WebWalkerQA",
        aliases: &["webwalker"],
        groups: &[Group::Knowledge, Group::DeepSearch],
        layout: Layout { kind: &["info.difficulty_level", "difficulty_level"], ..PLAIN },
        n_rows: 680,
        n_paper: Some(200),
        hub: "callanwu/WebWalkerQA",
        ..SIMPLEQA
    },
    HOTPOTQA,
    Benchmark {
        name: "2wikimultihopqa",
        title: "2WikiMultihopQA",
        aliases: &["2wiki"],
        n_rows: 12_576,
        hub: "xanhho/2WikiMultihopQA",
        ..HOTPOTQA
    },
    Benchmark {
        name: "musique",
        title: "MuSiQue",
        aliases: &["musique_ans", "musique_ans_v1.0_dev"],
        layout: PLAIN,
        n_rows: 2417,
        hub: "dgslibisey/MuSiQue",
        ..HOTPOTQA
    },
    Benchmark {
        name: "bamboogle",
        title: "Bamboogle",
        aliases: &[],
        layout: PLAIN,
        n_rows: 125,
        n_paper: Some(125),
        hub: "chiayewken/bamboogle",
        ..HOTPOTQA
    },
    Benchmark {
        name: "hle",
        title: "Humanity's Last Exam",
        aliases: &["humanitys_last_exam", "hle_text_only"],
        layout: Layout {
            kind: &["category"],
            attachments: &["image", "has_image"],
            grader: GraderOf::AnswerType,
            ..PLAIN
        },
        n_rows: 2158,
        n_paper: Some(500),
        hub: "cais/hle",
        ..SIMPLEQA
    },
    Benchmark {
        name: "gaia",
        title: "GAIA",
        aliases: &["gaia_text_only", "gaia_dev"],
        layout: Layout {
            answers: &["Final answer", "Final_answer", "final_answer", "answer"],
            id: &["task_id", "id"],
            kind: &["Level", "level"],
            attachments: &["file_name", "file_path"],
            ..PLAIN
        },
        grader: Grader::Gaia,
        n_rows: 103,
        n_paper: Some(103),
        hub: "gaia-benchmark/GAIA",
        ..SIMPLEQA
    },
    SIMPLEQA,
    Benchmark {
        name: "xbench-deepsearch",
        title: "xbench-DeepSearch",
        aliases: &["xbench", "xbench_deepsearch_2505", "deepsearch_2505"],
        layout: Layout { encrypted: true, ..PLAIN },
        n_rows: 100,
        n_paper: Some(100),
        hub: "xbench/DeepSearch",
        ..SIMPLEQA
    },
    Benchmark {
        name: "frames",
        title: "FRAMES",
        aliases: &["frames_benchmark"],
        layout: Layout { id: &["id", "Unnamed: 0", ""], kind: &["reasoning_types"], ..PLAIN },
        n_rows: 824,
        n_paper: None,
        hub: "google/frames-benchmark",
        ..SIMPLEQA
    },
];
