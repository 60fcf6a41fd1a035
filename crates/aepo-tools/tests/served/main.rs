//! Is a served model asked until it has answered, and no longer? Servers that are slow, overloaded, broken or gone.

mod server;

use std::sync::Arc;
use std::time::{Duration, Instant};

use aepo_tools::http::{Client, HttpError, Limits};
use aepo_tools::llm::{ChatMessage, End, Llm, LlmSettings, Role, Sampling};
use server::{Fault, Served};

fn llm(served: &Served, tries: u32) -> Llm {
    let limits = Limits { tries, backoff: Duration::from_millis(2), ..Limits::default() };
    let settings = LlmSettings { tries, ..LlmSettings::of(served.url.clone(), "m") };
    Llm::over(Client::new(limits).unwrap(), &settings).unwrap()
}

fn echo(messages: &[String]) -> String {
    format!("you said {}", messages.join("|"))
}

fn ask(llm: &Llm, secs: f64) -> Result<String, HttpError> {
    let sampling = Sampling { max_tokens: 9, ..Sampling::default() };
    let deadline = Instant::now() + Duration::from_secs_f64(secs);
    llm.ask(&[ChatMessage::user("hello")], &sampling, deadline).map(|said| said.text)
}

#[test]
fn what_may_pass_is_asked_again_and_what_stays_is_an_error() {
    let faults = [Fault::Status(429), Fault::Status(500), Fault::Half, Fault::Garbage, Fault::Form];
    for fault in faults {
        let once = Served::start(true, Arc::new(echo), Arc::new(move |n| if n == 0 { fault } else { Fault::None }));
        assert_eq!(ask(&llm(&once, 3), 30.0).unwrap(), "you said hello", "{fault:?}");
        assert_eq!(once.asked().into_values().collect::<Vec<u64>>(), [2], "{fault:?}");
        let always = Served::start(true, Arc::new(echo), Arc::new(move |_| fault));
        let error = ask(&llm(&always, 3), 30.0).unwrap_err();
        let n_asked: u64 = always.asked().into_values().sum();
        assert_eq!(n_asked, 3, "{fault:?}: {error}");
    }
    for status in [400, 401, 404] {
        let refuses = Served::start(true, Arc::new(echo), Arc::new(move |_| Fault::Status(status)));
        assert!(matches!(ask(&llm(&refuses, 3), 30.0), Err(HttpError::Status { .. })));
        assert_eq!(refuses.asked().into_values().sum::<u64>(), 1, "{status}");
    }
}

#[test]
fn a_deadline_holds_over_all_tries() {
    let slow = Served::start(true, Arc::new(echo), Arc::new(|_| Fault::Late(Duration::from_secs(60))));
    let before = Instant::now();
    assert!(matches!(ask(&llm(&slow, 5), 0.5), Err(HttpError::Deadline { .. })));
    assert!(before.elapsed() < Duration::from_secs(10));
    let late = Served::start(true, Arc::new(echo), Arc::new(|_| Fault::Late(Duration::from_millis(300))));
    assert_eq!(ask(&llm(&late, 1), 30.0).unwrap(), "you said hello");
}

#[test]
fn a_turn_that_goes_on_and_its_end_are_told_as_vllm_tells_them() {
    let say = Arc::new(|messages: &[String]| format!("{}</python> more", messages.len()));
    let sampling = Sampling { max_tokens: 9, stop: vec!["</python>".to_owned()], ..Sampling::default() };
    let own = ChatMessage { role: Role::Assistant, content: "<python>".to_owned() };
    for (says_stop, end) in [(true, End::StopText("</python>".to_owned())), (false, End::Unsaid)] {
        let served = Served::start(says_stop, say.clone(), Arc::new(|_| Fault::None));
        let messages = [ChatMessage::user("hello"), own.clone()];
        let said = llm(&served, 1).ask(&messages, &sampling, Instant::now() + Duration::from_secs(30)).unwrap();
        assert_eq!((said.text.as_str(), said.end, said.n_sampled), ("2", end, Some(1)));
        assert_eq!(served.n_answered(), 1);
        let body = served.asked().into_keys().next().unwrap();
        assert!(body.contains("\"continue_final_message\":true"), "{body}");
    }
}
