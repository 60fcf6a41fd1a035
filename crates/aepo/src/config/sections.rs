//! What can a recipe set? Every key once: its type, its default, and what it means.

use toml::Value;

use super::keys::Key;
use super::lora::LoraTargets;
use super::served::Samples;
use super::tasks::TaskLayout;
use super::tools::{CacheMode, Offers, Sandbox, SandboxLevel};
use super::value::{Arithmetic, Setting, Stored, TrainEngine};
use crate::algo::{Algorithm, ClipName};
use crate::data::task::Grader;
use crate::prompt::Protocol;
use crate::prompt::template::Date;
use crate::sft::rows::LongRows;
use crate::train::advantage::SharedTokens;
use crate::train::loss::{Aggregation, RatioScope};
use crate::train::schedule::Schedule;

sections! {
    /// The model that is trained.
    model: ModelSettings = "model" {
        /// Where training starts: a checkpoint folder, or "quickstart" for the one inside the program.
        init: String = "quickstart".to_owned();
        /// Numbers that frozen weights are kept in (under LoRA, and those of a reference policy): "f32", or "bf16",
        /// which rounds them and takes half the memory.
        frozen: Stored = Stored::F32;
        /// Numbers that matrices are multiplied in: "f32", or "bf16", which rounds both factors of each product (sums
        /// and weights stay in f32) and is about twice as fast where the processor multiplies pairs of bf16.
        arithmetic: Arithmetic = Arithmetic::F32;
    }

    /// What a published model's config.json is known to say: memory can be estimated without it, and where it is there
    /// it must say the same. All keys or none.
    expect: ExpectSettings = "model.expect" {
        /// Architecture, model_type in config.json: "llama", "qwen2" or "qwen3".
        family: Option<String> = None;
        /// Rows of the embedding.
        vocab_size: Option<usize> = None;
        /// Width of the residual stream.
        hidden_size: Option<usize> = None;
        /// Width of the gated MLP.
        intermediate_size: Option<usize> = None;
        /// Number of blocks.
        n_layers: Option<usize> = None;
        /// Query heads.
        n_heads: Option<usize> = None;
        /// Key/value heads.
        n_kv_heads: Option<usize> = None;
        /// Width of one head.
        head_dim: Option<usize> = None;
        /// Longest sequence, tokens.
        context_len: Option<usize> = None;
        /// Whether the output head is the embedding.
        tied_head: Option<bool> = None;
    }

    /// Training of small matrices beside frozen weights (LoRA, arXiv 2106.09685).
    lora: LoraSettings = "lora" {
        /// Rank of what is added to each matrix (r); 0 trains all weights instead.
        rank: usize = 0;
        /// What is added has the factor alpha / rank (α).
        alpha: f64 = 32.0;
        /// Matrices that it is added to: "all", "attention", "mlp", or a list of names like "q_proj".
        targets: LoraTargets = LoraTargets::all();
    }

    /// The shape of a model that `sft` makes from random weights (a Qwen3-style decoder).
    shape: Shape = "model.shape" {
        /// Width of the residual stream.
        hidden_size: usize = 192;
        /// Width of the gated MLP.
        intermediate_size: usize = 512;
        /// Number of blocks.
        n_layers: usize = 6;
        /// Query heads.
        n_heads: usize = 6;
        /// Key/value heads; divides n_heads.
        n_kv_heads: usize = 2;
        /// Width of one head; even.
        head_dim: usize = 32;
        /// RoPE's base θ.
        rope_theta: f64 = 10000.0;
        /// Longest sequence, tokens.
        context_len: usize = 1024;
    }

    /// How the model is asked, and how it calls and answers.
    prompt: PromptSettings = "prompt" {
        /// "tags": the quickstart's own special tokens; else the model's chat template, with calls as AEPO's tags ("aepo"),
        /// as JSON in <tool_call> ("hermes"), or as bare JSON ("llama3").
        protocol: Protocol = Protocol::Tags;
        /// System message of a chat template, "" for none; the protocol's own unless set.
        system: Option<String> = None;
        /// Take the Markdown fence off a program that stands in one.
        code_fences: bool = false;
        /// What a chat template finds under `enable_thinking`; undefined there unless set.
        thinking: Option<bool> = None;
        /// Today's date to a chat template that writes one; it is an error there unless set.
        date: Option<Date> = None;
    }

    /// The questions.
    tasks: TaskSettings = "tasks" {
        /// Training questions: "quickstart" (generated from the embedded facts) or a file of them, .jsonl, .json, .csv, .tsv
        /// or .parquet.
        source: String = "quickstart".to_owned();
        /// How its rows are laid out: "tasks" (our own), "verl", "fields" (those of [tasks.fields]), a benchmark's name, or
        /// "auto" for named fields, or else what the file's name and first row tell.
        layout: TaskLayout = TaskLayout::Auto;
        /// File of held-out questions; only with a file as source.
        eval_file: Option<String> = None;
        /// How its rows are laid out, as in layout.
        eval_layout: TaskLayout = TaskLayout::Auto;
        /// How answers are compared where fields are named: "math", "qa", "choice" or "gaia"; with layout "verl", instead of
        /// what the rows say.
        grader: Option<Grader> = None;
        /// Number of training questions: as many are generated, or read from the file at most.
        n_train: usize = 2000;
        /// Draws the generated questions; only with the quickstart source.
        seed: u64 = 0;
    }

    /// Fields of a row that make a question, where a file has a layout of its own. A dot in a name goes into an object.
    task_fields: TaskFieldSettings = "tasks.fields" {
        /// What is asked.
        question: Option<String> = None;
        /// The accepted answer, or a list of them.
        answers: Option<String> = None;
        /// The row's name; rows are numbered unless set.
        id: Option<String> = None;
        /// Under what results are also reported; one kind unless set.
        kind: Option<String> = None;
        /// How the row's answers are compared; tasks.grader says it for all unless set.
        grader: Option<String> = None;
    }

    /// Which rules apply.
    algorithm: AlgorithmSettings = "algorithm" {
        /// Named bundle of rules.
        name: Algorithm = Algorithm::Aepo;
    }

    /// How trajectories are sampled.
    rollout: RolloutSettings = "rollout" {
        /// Trajectories per task, the leaves of its tree (k).
        k: usize = 16;
        /// Divide k by the entropies of a first trajectory; false takes initial_rollouts.
        pre_monitor: bool = true;
        /// Sensitivity of the division to H_root − H̄_tool, per nat (β).
        beta: f64 = 0.5;
        /// Root samples before any fork, when not pre-monitored (m); below k, and half of it unless set.
        initial_rollouts: usize = 8;
        /// Fork score at no change of entropy (α).
        alpha: f64 = 0.5;
        /// Fork score per nat of entropy rise after a tool result (γ).
        gamma: f64 = 0.2;
        /// Fork where the score exceeds this (τ), in [0, 1).
        tau: f64 = 0.5;
        /// Penalty on the score per consecutive fork (P̂(l) = min(1, penalty_slope·l)); 0 switches it off.
        penalty_slope: f64 = 0.05;
        /// Tokens over which an entropy is averaged.
        entropy_tokens: usize = 20;
        /// New children per fork (Z); where a draw decides, tries per path and round.
        branch_width: usize = 1;
        /// Turns of a finished tree that are expanded per round: of each root sample (N), or of the task where they are
        /// ranked (K); the algorithm's own unless set.
        expand_per_round: usize = 2;
        /// Off the rank of a turn per turn that was sampled in its place before, nats per token.
        expand_penalty: f64 = 0.05;
        /// Tool calls per trajectory.
        call_limit: usize = 6;
        /// Calls of the same tool with the same input that a trajectory may make, below call_limit; one more ends it. 0 for
        /// any number.
        max_equal_calls: usize = 0;
        /// Softmax temperature.
        temperature: f64 = 1.0;
        /// Nucleus mass in (0, 1]; 1 keeps the whole vocabulary.
        top_p: f64 = 1.0;
        /// Number of candidate tokens; 0 keeps the whole vocabulary.
        top_k: usize = 0;
        /// Tokens per trajectory, the prompt excluded, tool results included.
        max_response_tokens: usize = 640;
        /// Tokens per turn of the model.
        max_turn_tokens: usize = 192;
        /// Tokens of a tool result that the model gets to read.
        max_result_tokens: usize = 192;
        /// Paths that are sampled at the same time (one tree's at least); memory grows with it, results do not change.
        max_live_paths: usize = 256;
    }

    /// How rewards become advantages.
    advantage: AdvantageSettings = "advantage" {
        /// Weight of the normalised token entropy in the advantage (a); 0 switches it off.
        entropy_weight: f64 = 0.2;
        /// What a token on several trajectories gets: "own" on each that one's advantage, "mean" their mean.
        shared: SharedTokens = SharedTokens::Own;
    }

    /// How GiGPO compares turns.
    gigpo: GigpoSettings = "gigpo" {
        /// Weight of the turn's advantage beside the trajectory's (ω).
        omega: f64 = 1.0;
        /// Discount of the final reward per turn (γ), in [0, 1].
        gamma: f64 = 0.95;
    }

    /// How rewards are shaped for training.
    reward: RewardSettings = "reward" {
        /// Last share of rollout.max_response_tokens over which the reward falls by 1, in [0, 1]; 0 switches it off.
        overlong_share: f64 = 0.0;
    }

    /// What is minimised.
    loss: LossSettings = "loss" {
        /// Per-token objective; the algorithm's own unless set.
        clip: ClipName = ClipName::Balanced;
        /// Over which tokens the ratio is taken; the algorithm's own unless set.
        ratio: RatioScope = RatioScope::Token;
        /// Lower clip bound (ε_l), in [0, 1]; 1 leaves the lower side open. The algorithm's own unless set.
        clip_low: f64 = 0.2;
        /// Upper clip bound (ε_h); the algorithm's own unless set.
        clip_high: f64 = 0.2;
        /// Bound on the ratio of tokens with negative advantage (c > 1); the algorithm's own unless set.
        dual_clip: Option<f64> = None;
        /// How token terms are averaged; the algorithm's own unless set.
        aggregation: Aggregation = Aggregation::TokenMean;
        /// Coefficient of the divergence from the initial policy, which is evaluated only where this is not 0: k3 in the
        /// loss, or k1 in the reward where the algorithm has it there.
        kl_coef: f64 = 0.0;
        /// Coefficient of the entropy bonus, per nat.
        entropy_coef: f64 = 0.0;
        /// Cap (C) of token-level truncated importance sampling from sampler to trainer; off unless set.
        is_cap: Option<f64> = None;
    }

    /// How the weights are updated.
    train: TrainSettings = "train" {
        /// Training steps: rollouts of one batch of tasks and their update.
        steps: u64 = 100;
        /// Tasks per step, each with k trajectories.
        tasks_per_step: usize = 16;
        /// Replace tasks whose trajectories all have the same reward; the algorithm's own unless set.
        dynamic_sampling: bool = false;
        /// Further batches of tasks that a step may draw to replace such tasks; it makes do with what it has then.
        max_refills: usize = 3;
        /// Optimiser steps per epoch over a step's tasks.
        minibatches: usize = 2;
        /// Epochs over a step's tasks.
        epochs: usize = 1;
        /// Peak learning rate.
        learning_rate: f64 = 1e-4;
        /// Steps of linear warm-up.
        warmup_steps: u64 = 5;
        /// Learning rate after the warm-up.
        schedule: Schedule = Schedule::Constant;
        /// Decoupled weight decay.
        weight_decay: f64 = 0.01;
        /// Global gradient norm above which the gradient is scaled down.
        max_grad_norm: f64 = 1.0;
        /// Adam's β₁.
        beta1: f64 = 0.9;
        /// Adam's β₂.
        beta2: f64 = 0.95;
        /// Adam's ε.
        eps: f64 = 1e-8;
        /// Tokens per forward pass (a larger tree has a pass to itself); memory grows with it, results do not change, and
        /// speed hardly.
        max_batch_tokens: usize = 4096;
        /// Keep only what goes into each block for the backward pass and compute the block again there: far less memory,
        /// up to half more time, results do not change.
        recompute: bool = false;
        /// Share of a step's trajectories that may end because a tool is unavailable, in [0, 1]; above it the run stops
        /// instead of learning from what is left.
        max_unavailable: f64 = 0.5;
        /// Steps between checkpoints; 0 writes one at the end only.
        checkpoint_every: u64 = 0;
        /// The run's seed: sampling, task order, tools.
        seed: u64 = 1;
        /// Threads of the embedded engine; 0 takes every core.
        threads: usize = 0;
    }

    /// Where the model is trained.
    policy_train: PolicyTrainSettings = "policy.train" {
        /// What trains it: "embedded" (this program), or "tinker" (a server that speaks the Tinker protocol, like SkyRL's).
        engine: TrainEngine = TrainEngine::Embedded;
        /// Address of the server, up to what stands before /api/v1.
        url: Option<String> = None;
        /// The name under which the server knows the model; its only one unless set.
        base_model: Option<String> = None;
        /// Variable of the environment that holds the server's key; no key is sent unless set.
        key_env: Option<String> = None;
        /// Longest time of one operation of the server (a pass over a batch, a step, the way of the weights), seconds.
        patience_secs: f64 = 600.0;
    }

    /// Where paths are sampled.
    policy_sample: PolicySampleSettings = "policy.sample" {
        /// What samples: "embedded" (this program), "vllm" or "sglang" (servers of them).
        engine: Samples = Samples::Embedded;
        /// Addresses of the servers, replicas of each other ("http://host:port").
        urls: Vec<String> = Vec::new();
        /// The name under which vLLM serves the model; the first that a server names unless set.
        model: Option<String> = None;
        /// Variable of the environment that holds the servers' key; no key is sent unless set.
        key_env: Option<String> = None;
        /// Log-probabilities per token that a server is asked for (k); entropies are known within bounds that these leave.
        top_logprobs: usize = 20;
        /// Wall time per request with all its tries, seconds.
        deadline_secs: f64 = 600.0;
        /// Wall time per try, seconds.
        try_secs: f64 = 300.0;
        /// Requests that are in flight at one server at the same time.
        max_in_flight: usize = 256;
        /// Directory that this program and the servers see under the same path, where new weights are put for them; the
        /// system's directory for temporary files unless set.
        weights_dir: Option<String> = None;
        /// Training steps by which the weights that sample are behind those that learn: the trees of so many steps are
        /// grown ahead while the model learns. 0 for taking turns.
        staleness: u64 = 0;
    }

    /// How the model is measured.
    eval: EvalSettings = "eval" {
        /// Held-out questions.
        n_tasks: usize = 200;
        /// Answers per question.
        samples: usize = 4;
        /// Softmax temperature.
        temperature: f64 = 1.0;
        /// Nucleus mass in (0, 1]; 1 keeps the whole vocabulary.
        top_p: f64 = 1.0;
        /// Of the tool calls of an answer, programs; below rollout.call_limit. 0 for no bound of their own.
        python_calls: usize = 0;
        /// Of the tool calls of an answer, searches; below rollout.call_limit. 0 for no bound of their own.
        search_calls: usize = 0;
        /// Steps between evaluations during training; 0 evaluates before and after only.
        every: u64 = 0;
    }

    /// All tools.
    tools: ToolSettings = "tools" {
        /// What the model may call: "python", "search", "visit" (pages of the web), "mcp" (tools of other programs).
        offer: Offers = Offers::python_and_search();
        /// Calls of each tool that run at once; 0 takes every core.
        n_workers: usize = 0;
    }

    /// The Python tool.
    python: PythonToolSettings = "tools.python" {
        /// The interpreter; python3 of the search path unless set.
        interpreter: Option<String> = None;
        /// What holds programs: "auto" (the best that works here), "namespaces", "landlock", "sandboxfusion" (a server
        /// elsewhere), or "unsafe-local" (nothing).
        backend: Sandbox = Sandbox::Auto;
        /// Address of the SandboxFusion server, such as http://127.0.0.1:8080.
        endpoint: Option<String> = None;
        /// The worst that "auto" may take: "landlock" or "namespaces".
        min_level: SandboxLevel = SandboxLevel::Landlock;
        /// Whether a program goes on with the variables of the earlier programs of its trajectory.
        sessions: bool = false;
        /// Wall time per call, seconds.
        wall_secs: f64 = 5.0;
        /// Processor time per call over all threads, seconds.
        cpu_secs: u64 = 5;
        /// Address space of each process of a call, MiB.
        memory_mb: u64 = 512;
        /// Memory of all processes of a call together, MiB.
        total_memory_mb: u64 = 1024;
        /// Processes and threads of a call at once.
        max_processes: u64 = 16;
        /// Output per call, bytes.
        max_output_bytes: usize = 8192;
        /// Programs of a whole run, what a cache answers not counted; 0 for any number.
        calls_per_run: u64 = 0;
    }

    /// The search tool.
    search: SearchToolSettings = "tools.search" {
        /// Where it looks: "quickstart" (the articles inside the program), the directory of an index (`aepo index build`),
        /// the http:// or https:// address of a retriever, or the web by "serper", "brave", "exa", "tavily" or
        /// "brightdata", whose keys are read from the environment.
        source: String = "quickstart".to_owned();
        /// Articles per query.
        n_results: usize = 3;
        /// Characters of text shown of each.
        max_chars: usize = 1000;
        /// Time per call over the network, with every request that is sent again, seconds.
        timeout_secs: f64 = 30.0;
        /// Requests per second over the network, of all workers together; 0 for no bound.
        per_second: f64 = 0.0;
        /// Searches of a whole run, what a cache answers not counted; over the network as many requests, with those that
        /// are sent again. 0 for any number.
        calls_per_run: u64 = 0;
    }

    /// The tool that reads pages of the web.
    visit: VisitToolSettings = "tools.visit" {
        /// Characters of a page that are shown.
        max_chars: usize = 10_000;
        /// Wall time per page, redirects included, seconds.
        page_secs: f64 = 20.0;
        /// Hosts ("name" or "name:port") that may have a private address or another port than 80 and 443.
        allow_hosts: Vec<String> = Vec::new();
        /// Pages of a whole run, what a cache answers not counted; 0 for any number.
        calls_per_run: u64 = 0;
        /// OpenAI-compatible address, with its version ("https://host/v1"), of a model that reads each page towards the
        /// goal that the agent names, and answers for it; unless set, pages themselves are shown.
        summary_endpoint: Option<String> = None;
        /// The name under which that server knows the model.
        summary_model: Option<String> = None;
        /// Variable of the environment that holds the server's key; no key is sent unless set.
        summary_key_env: Option<String> = None;
        /// Wall time per summary, seconds.
        summary_secs: f64 = 60.0;
    }

    /// Tools of other programs, by the Model Context Protocol.
    mcp: McpToolSettings = "tools.mcp" {
        /// JSON file of servers ({"mcpServers": {NAME: {"command": …} or {"url": …}}}).
        file: Option<String> = None;
        /// Wall time per call, seconds.
        call_secs: f64 = 60.0;
        /// Calls of a whole run, what a cache answers not counted; 0 for any number.
        calls_per_run: u64 = 0;
    }

    /// Results of tools, kept for other runs.
    cache: CacheSettings = "tools.cache" {
        /// "off", "record" (answer what is known, call and keep the rest) or "replay" (call nothing).
        mode: CacheMode = CacheMode::Off;
        /// The file; it is made where there is none to record into.
        path: Option<String> = None;
        /// How long a failure counts as an answer when recording, seconds.
        negative_secs: u64 = 600;
    }

    /// Faults on purpose, to see what a run makes of them.
    faults: FaultSettings = "tools.faults" {
        /// Share of calls, in [0, 1], that end badly: a third as if the tool were away, a third too late, and a third with
        /// garbage for a result.
        share: f64 = 0.0;
        /// Wall time per call while there are faults, seconds; what comes too late runs into it.
        call_secs: f64 = 10.0;
        /// Which calls are hit.
        seed: u64 = 0;
    }

    /// The cold start.
    sft: SftSettings = "sft" {
        /// Where it begins: "random" for a model of [model.shape], or whatever model.init may be.
        init: String = "random".to_owned();
        /// What is learned: "quickstart" (demonstrations, generated anew in every step) or a file of conversations, JSON
        /// lines or one JSON list, in the ShareGPT or the OpenAI layout.
        source: String = "quickstart".to_owned();
        /// Tokens of demonstrations in all, context included; only with the quickstart source.
        tokens: u64 = 20_000_000;
        /// How often a file is learned from beginning to end, each time in another order; only with a file as source.
        epochs: u64 = 3;
        /// Longest row, tokens; the model's context unless set, and never more than that.
        max_row_tokens: Option<usize> = None;
        /// What happens to a longer row: "leave-out", or "cut" behind that many tokens.
        long_rows: LongRows = LongRows::LeaveOut;
        /// Rows kept out of training, on which the loss is measured; 0 measures nothing.
        holdout: usize = 0;
        /// Steps between these measurements; 0 measures before and after only.
        eval_every: u64 = 0;
        /// Tokens per optimiser step, context included.
        batch_tokens: usize = 16384;
        /// Peak learning rate.
        learning_rate: f64 = 2e-3;
        /// Share of the steps spent on linear warm-up, in [0, 1].
        warmup_share: f64 = 0.02;
        /// Learning rate after the warm-up.
        schedule: Schedule = Schedule::Cosine;
        /// Decoupled weight decay.
        weight_decay: f64 = 0.1;
        /// Global gradient norm above which the gradient is scaled down.
        max_grad_norm: f64 = 1.0;
        /// Adam's β₁.
        beta1: f64 = 0.9;
        /// Adam's β₂.
        beta2: f64 = 0.95;
        /// Adam's ε.
        eps: f64 = 1e-8;
        /// Tokens per forward pass.
        max_batch_tokens: usize = 4096;
        /// Weight of rows that only repeat: at the start, at the end of the curriculum.
        copy_share: [f64; 2] = [0.5, 0.1];
        /// Weight of rows that only look a fact up: at the start, at the end of the curriculum.
        lookup_share: [f64; 2] = [0.25, 0.1];
        /// Weight of rows that solve a question with tools: at the start, at the end of the curriculum.
        task_share: [f64; 2] = [0.25, 0.8];
        /// Share of the run after which the curriculum's end is reached, in (0, 1].
        curriculum: f64 = 0.5;
        /// Weights of one-hop, two-hop, comparison and arithmetic questions.
        kind_shares: [f64; 4] = [1.0; 4];
        /// Probability that a question is about invented countries, in [0, 1].
        invented: f64 = 0.75;
        /// Probability that the demonstrator guesses instead of searching, in [0, 1].
        head_answer: f64 = 0.22;
        /// Probability that it searches for the wrong thing, in [0, 1].
        wrong_query: f64 = 0.2;
        /// Probability that it calculates in the head, in [0, 1].
        head_math: f64 = 0.4;
        /// Probability that it makes a needless call, in [0, 1].
        needless_call: f64 = 0.12;
        /// Probability that it breaks the answer's form, in [0, 1].
        bad_format: f64 = 0.1;
        /// Seed of random weights, of the demonstrations, of the order of a file's rows and of what is held out.
        seed: u64 = 0;
    }
}
