//! Who may speak after whom? A conversation to learn from is made of what the assistant reads and what it answers.

use super::openai::Ids;
use super::{Fault, fault};
use crate::data::message::{Message, Speaker};

/// The rule of the ShareGPT layout: behind a system message that may stand first, a message of the user or of a tool
/// and one of the assistant by turns, and the assistant last.
pub(super) fn check_alternation(messages: &[Message], list: &str) -> Result<(), Fault> {
    let n_system = check_ends(messages, list)?;
    for (i, message) in messages.iter().enumerate().skip(n_system) {
        let is_answer = message.role == Speaker::Assistant;
        match ((i - n_system) % 2 == 1, is_answer) {
            (true, false) => return fault(key(list, i), "the assistant should answer here"),
            (false, true) => return fault(key(list, i), "the assistant has just spoken; the user or a tool should"),
            _ => {}
        }
    }
    Ok(())
}

/// The rule of the OpenAI layout: behind a system message that may stand first, the user and the assistant by turns;
/// where the assistant calls tools and does not end with that, as many results follow as there are calls, and then it
/// speaks again. `ids` is by message.
pub(super) fn check_calls(messages: &[Message], ids: &[Ids], list: &str) -> Result<(), Fault> {
    let n_system = check_ends(messages, list)?;
    // Calls that wait for their results, and the number of results among them.
    let (mut open, mut n_results): (&[Option<String>], usize) = (&[], 0);
    let mut answered: Vec<&str> = Vec::new();
    let mut wants_answer = false;
    for (i, message) in messages.iter().enumerate().skip(n_system) {
        match message.role {
            Speaker::Tool => {
                if n_results == open.len() {
                    return fault(key(list, i), "a result without a call");
                }
                if let Some(id) = ids[i].first().and_then(Option::as_deref) {
                    if !open.iter().any(|of_call| of_call.as_deref() == Some(id)) {
                        return fault(format!("{list}[{i}].tool_call_id"), format!("no call before has the id {id:?}"));
                    }
                    if answered.contains(&id) {
                        return fault(format!("{list}[{i}].tool_call_id"), format!("{id:?} has a result already"));
                    }
                    answered.push(id);
                }
                n_results += 1;
                wants_answer = true;
            }
            _ if n_results < open.len() => {
                return fault(key(list, i), format!("of {} calls before only {n_results} have a result", open.len()));
            }
            Speaker::User if wants_answer => return fault(key(list, i), "the assistant should answer here"),
            Speaker::User => wants_answer = true,
            Speaker::Assistant if !wants_answer => {
                return fault(key(list, i), "the assistant has just spoken; the user or a tool should");
            }
            Speaker::Assistant => {
                (open, n_results, wants_answer) = (&ids[i], 0, false);
                answered.clear();
            }
            // The ends were checked: no other system message is there.
            Speaker::System => {}
        }
    }
    Ok(())
}

/// What holds in both layouts; returns the number of system messages, 0 or 1.
fn check_ends(messages: &[Message], list: &str) -> Result<usize, Fault> {
    if !messages.iter().any(|m| m.role == Speaker::Assistant) {
        return fault(list, "no message of the assistant, so there is nothing to learn");
    }
    if let Some(i) = messages.iter().skip(1).position(|m| m.role == Speaker::System) {
        return fault(key(list, i + 1), "a system message stands first or nowhere");
    }
    let n_system = usize::from(messages.first().is_some_and(|m| m.role == Speaker::System));
    match messages.get(n_system) {
        Some(first) if first.role != Speaker::User => return fault(key(list, n_system), "the user should begin"),
        _ => {}
    }
    match messages.last() {
        Some(last) if last.role != Speaker::Assistant => {
            fault(key(list, messages.len() - 1), "the conversation should end with the assistant")
        }
        _ => Ok(n_system),
    }
}

fn key(list: &str, i: usize) -> String {
    format!("{list}[{i}]")
}
