//! How is a served model asked many questions at once? A thread per question under way, and the tools in this one.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use aepo::data::task::Task;
use aepo::eval::agent::{Agent, AgentSettings, Next, Turn, TurnEnd, Who};
use aepo::eval::answer::{AnswerName, AnswerRecord};
use aepo::seed::Seed;
use aepo::tool::{CallId, ToolCall, ToolOutcome, ToolResult, Toolset};
use aepo_tools::http::HttpError;
use aepo_tools::llm::{ChatMessage, End, Llm, Role, Said, Sampling};

use super::store::Store;
use crate::interrupt;
use crate::machine::Clock;
use crate::progress::Teller;

/// One answer to get.
pub struct Job<'a> {
    /// The set it belongs to.
    pub set: &'a str,
    /// What is asked.
    pub task: &'a Task,
    /// Which of the question's answers.
    pub sample: usize,
    /// Its seed.
    pub seed: Seed,
}

/// How a served model is asked.
pub struct Served<'a> {
    /// The model.
    pub llm: &'a Llm,
    /// Its agent.
    pub agent: &'a AgentSettings,
    /// Softmax temperature.
    pub temperature: f64,
    /// Nucleus mass.
    pub top_p: f64,
    /// Deadline of a request.
    pub patience: Duration,
    /// Questions at once.
    pub n_jobs: usize,
}

/// How often nothing is heard of before somebody is looked for who asked to stop.
const LOOK_AROUND: Duration = Duration::from_millis(100);
/// While tools work, their results are looked for as often.
const TOOLS_LOOK: Duration = Duration::from_millis(2);

/// What a thread has to say.
enum Word {
    Call(ToolCall, Sender<ToolResult>),
    Done { counts: bool, error: Option<String> },
    Broken(anyhow::Error),
}

/// Asks until every job has an answer, somebody asks to stop, or the server cannot be asked at all. An answer is written
/// by the thread that got it, before that thread does anything else; questions under way when it stops are dropped.
pub fn ask_all(
    served: &Served<'_>,
    jobs: Vec<Job<'_>>,
    store: &Store,
    tools: &mut dyn Toolset,
    n_done: u64,
    teller: &mut Teller,
) -> anyhow::Result<()> {
    let queue = Mutex::new(VecDeque::from(jobs));
    let stop = AtomicBool::new(false);
    let (sender, receiver) = channel();
    std::thread::scope(|scope| {
        for _ in 0..served.n_jobs.max(1) {
            let (sender, queue, stop) = (sender.clone(), &queue, &stop);
            scope.spawn(move || work(served, queue, store, stop, &sender));
        }
        drop(sender);
        let outcome = listen(served, &receiver, tools, &stop, n_done, teller);
        stop.store(true, Ordering::Relaxed);
        outcome
    })
}

/// The tools' side: passes calls and results on until every thread has ended.
fn listen(
    served: &Served<'_>,
    receiver: &Receiver<Word>,
    tools: &mut dyn Toolset,
    stop: &AtomicBool,
    mut n_done: u64,
    teller: &mut Teller,
) -> anyhow::Result<()> {
    let mut waiting: BTreeMap<CallId, Sender<ToolResult>> = BTreeMap::new();
    let (mut n_calls, mut n_lost) = (0, 0);
    let mut broken = None;
    loop {
        if interrupt::asked() {
            stop.store(true, Ordering::Relaxed);
        }
        let word = match receiver.recv_timeout(if waiting.is_empty() { LOOK_AROUND } else { TOOLS_LOOK }) {
            Ok(word) => Some(word),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => break,
        };
        match word {
            Some(Word::Call(call, reply)) => {
                let id = CallId(n_calls);
                n_calls += 1;
                waiting.insert(id, reply);
                tools.submit(ToolCall { id, ..call });
            }
            Some(Word::Done { counts, error }) => {
                n_lost = if counts { 0 } else { n_lost + 1 };
                n_done += u64::from(counts);
                teller.at(n_done);
                // Nobody is there: asking on would only go through the questions.
                if n_lost > (2 * served.n_jobs).max(10) && broken.is_none() {
                    stop.store(true, Ordering::Relaxed);
                    let why = error.unwrap_or_default();
                    broken = Some(anyhow::anyhow!("{n_lost} answers in a row could not be had, the last: {why}"));
                }
            }
            Some(Word::Broken(error)) => {
                stop.store(true, Ordering::Relaxed);
                broken.get_or_insert(error);
            }
            None => {}
        }
        if !waiting.is_empty() {
            for result in tools.poll(false) {
                if let Some(reply) = waiting.remove(&result.id) {
                    // A thread that has stopped waits for nothing.
                    let _ = reply.send(result);
                }
            }
        }
    }
    broken.map_or(Ok(()), Err)
}

/// A thread's side: one answer after the other.
fn work(served: &Served<'_>, queue: &Mutex<VecDeque<Job<'_>>>, store: &Store, stop: &AtomicBool, say: &Sender<Word>) {
    while !stop.load(Ordering::Relaxed) {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some(job) = job else { return };
        let word = match answer(served, &job, stop, say) {
            Ok(None) => return,
            Ok(Some(record)) => match store.add(&record) {
                Ok(()) => Word::Done { counts: record.counts(), error: record.error },
                Err(error) => Word::Broken(error),
            },
            Err(error) => Word::Broken(error),
        };
        let is_broken = matches!(word, Word::Broken(_));
        if say.send(word).is_err() || is_broken {
            return;
        }
    }
}

/// One answer; `None` where it was given up because all stop.
fn answer(
    served: &Served<'_>,
    job: &Job<'_>,
    stop: &AtomicBool,
    say: &Sender<Word>,
) -> anyhow::Result<Option<AnswerRecord>> {
    let clock = Clock::start();
    let name = AnswerName { benchmark: job.set, id: &job.task.id, sample: job.sample, seed: job.seed.0 };
    let mut agent = Agent::new(&job.task.question, name, served.agent);
    let mut next = Next::Say;
    loop {
        if stop.load(Ordering::Relaxed) && next != Next::End {
            return Ok(None);
        }
        next = match next {
            Next::End => return Ok(agent.record(clock.secs())),
            Next::Say => {
                match served.llm.ask(&messages(&agent), &sampling(served, &agent), Instant::now() + served.patience) {
                    Ok(said) => agent.said(turn(said)),
                    Err(error) => {
                        lost(&mut agent, error)?;
                        Next::End
                    }
                }
            }
            Next::Call(call) => {
                let (reply, result) = channel();
                let lost = || (ToolOutcome::Unavailable, "the tools have ended".to_owned());
                let sent = say.send(Word::Call(call, reply)).is_ok();
                let result = sent.then(|| result.recv().ok()).flatten();
                let (outcome, text) = result.map_or_else(lost, |result| (result.outcome, result.text));
                agent.came_back(outcome, &text)
            }
        };
    }
}

fn messages(agent: &Agent<'_>) -> Vec<ChatMessage> {
    let role = |who| match who {
        Who::System => Role::System,
        Who::User => Role::User,
        Who::Assistant => Role::Assistant,
    };
    agent.messages().iter().map(|(who, text)| ChatMessage { role: role(*who), content: text.clone() }).collect()
}

fn sampling(served: &Served<'_>, agent: &Agent<'_>) -> Sampling {
    Sampling {
        temperature: Some(served.temperature),
        top_p: Some(served.top_p),
        max_tokens: u32::try_from(agent.max_tokens()).unwrap_or(u32::MAX),
        seed: Some(agent.turn_seed()),
        stop: agent.stops(),
    }
}

fn turn(said: Said) -> Turn {
    let end = match said.end {
        End::Turn => TurnEnd::Own,
        End::StopText(text) => TurnEnd::Stop(text),
        End::Unsaid => TurnEnd::Unsaid,
        End::Length | End::Filtered => TurnEnd::Cut,
    };
    // Thoughts that the server keeps apart belong to the turn, and the model reads them again as servers want it: not.
    Turn { text: said.text, end, n_prompt: said.n_prompt, n_sampled: said.n_sampled }
}

/// A request that gave nothing: the end of this answer, or of the evaluation where no other will fare better.
fn lost(agent: &mut Agent<'_>, error: HttpError) -> anyhow::Result<()> {
    match &error {
        HttpError::Status { status: 401 | 403 | 404, .. } | HttpError::Budget { .. } | HttpError::Address => {
            Err(error.into())
        }
        HttpError::Status { status: 400 | 413 | 422, message, .. } if is_about_length(message) => {
            agent.is_full();
            Ok(())
        }
        _ => {
            agent.is_lost(error.to_string());
            Ok(())
        }
    }
}

/// What vLLM, SGLang, llama.cpp and OpenAI say where a conversation is too long, as far as they agree.
fn is_about_length(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    message.contains("context") || message.contains("too long") || message.contains("maximum length")
}

#[cfg(test)]
mod tests {
    use super::is_about_length;

    #[test]
    fn a_full_context_is_told_from_other_complaints() {
        for full in [
            ": This model's maximum context length is 4096 tokens. However, you requested 5000 tokens",
            ": the request exceeds the available context size",
            ": Input is too long for requested model.",
        ] {
            assert!(is_about_length(full), "{full}");
        }
        assert!(!is_about_length(": temperature must be in [0, 2]"));
    }
}
