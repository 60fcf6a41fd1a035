//! Does a conversation with a served model go on, call and end as it should?

use super::*;

fn settings(results: Results) -> AgentSettings {
    AgentSettings {
        system: "Be brief.".to_owned(),
        tools: ToolSpec::python_and_search().to_vec(),
        limits: Limits {
            n_calls: 3,
            n_equal_calls: 0,
            n_python: 2,
            n_search: 0,
            response_tokens: 100,
            turn_tokens: 60,
            result_tokens: 3,
        },
        results,
        code_fences: true,
    }
}

const NAME: AnswerName<'_> = AnswerName { benchmark: "gsm8k", id: "7", sample: 2, seed: 5 };

fn turn(text: &str, end: TurnEnd) -> Turn {
    Turn { text: text.to_owned(), end, n_prompt: Some(10), n_sampled: Some(7) }
}

#[test]
fn calls_are_made_and_results_come_back_until_there_is_an_answer() {
    for results in [Results::Message, Results::Turn] {
        let settings = settings(results);
        let mut agent = Agent::new("2 + 2?", NAME, &settings);
        assert_eq!(agent.stops(), ["</python>", "</search>"]);
        let first = agent.turn_seed();
        let program = "<think>Hm.</think><python>```python\nprint(2 + 2)\n```";
        let Next::Call(call) = agent.said(turn(program, TurnEnd::Stop("</python>".to_owned()))) else {
            panic!("no call")
        };
        assert_eq!((call.tool.as_str(), call.input.as_str()), ("python", "print(2 + 2)\n"));
        assert!(call.earlier.is_empty());
        assert_eq!(agent.came_back(ToolOutcome::Ok, "4444444444444444"), Next::Say);
        assert_ne!(agent.turn_seed(), first);
        assert_eq!(agent.max_tokens(), 60);
        let (n_messages, last) = (agent.messages().len(), agent.messages().last().unwrap().clone());
        let shown = "<result>\n444444444444\n</result>";
        match results {
            Results::Message => assert_eq!((n_messages, last), (4, (Who::User, shown.to_owned()))),
            Results::Turn => {
                assert_eq!(n_messages, 3);
                assert_eq!(last, (Who::Assistant, format!("{program}</python>{shown}")));
            }
        }
        assert_eq!(agent.said(turn("<answer>\\boxed{4}</answer>", TurnEnd::Own)), Next::End);
        let record = agent.record(1.5).unwrap();
        assert_eq!((record.stop.as_str(), record.answer.as_deref(), record.format_ok), ("answered", Some("4"), true));
        assert_eq!((record.n_prompt_tokens, record.n_sampled_tokens), (Some(20), Some(14)));
        assert_eq!(record.calls[&ToolName::PYTHON], 1);
        assert_eq!(record.text, format!("{program}</python>{shown}<answer>\\boxed{{4}}</answer>"));
    }
}

#[test]
fn servers_that_do_not_say_what_ended_a_turn_are_understood() {
    let settings = settings(Results::Message);
    let call = |text: &str| {
        let mut agent = Agent::new("?", NAME, &settings);
        match agent.said(turn(text, TurnEnd::Unsaid)) {
            Next::Call(call) => Some((call.tool.to_string(), call.input)),
            _ => None,
        }
    };
    let some = |tool: &str, input: &str| Some((tool.to_owned(), input.to_owned()));
    assert_eq!(call("<python>print('<search>')"), some("python", "print('<search>')"));
    assert_eq!(call("<search>a query"), some("search", "a query"));
    assert_eq!(call("<search>a query</search>"), some("search", "a query"));
    assert_eq!(call("<think>a <b</think>\n<search>q"), some("search", "q"));
    assert_eq!(call("<answer>\\boxed{4}</answer>"), None);
    assert_eq!(call("<think>I should <python>"), None);
    assert_eq!(call("words"), None);
}

#[test]
fn every_end_has_its_name() {
    let settings = settings(Results::Message);
    let after = |turns: &[Turn]| {
        let mut agent = Agent::new("?", NAME, &settings);
        for turn in turns {
            if let Next::Call(_) = agent.said(turn.clone()) {
                agent.came_back(ToolOutcome::Raised, "no");
            }
        }
        let record = agent.record(0.0).unwrap();
        (record.stop, record.answer, record.format_ok)
    };
    let end = |stop: &str, answer: Option<&str>| (stop.to_owned(), answer.map(str::to_owned), false);
    let python = |i: usize| turn(&format!("<python>{i}"), TurnEnd::Stop("</python>".to_owned()));
    let search = |i: usize| turn(&format!("<search>{i}"), TurnEnd::Stop("</search>".to_owned()));
    assert_eq!(after(&[turn("so \\boxed{4}", TurnEnd::Own)]), end("no-action", Some("4")));
    assert_eq!(after(&[turn("<answer>4</answer>", TurnEnd::Own)]), end("no-box", None));
    assert_eq!(after(&[turn("<python>1", TurnEnd::Own)]), end("bad-tags", None));
    assert_eq!(after(&[turn("so \\boxed{4}", TurnEnd::Cut)]), end("max-turn-tokens", None));
    let long = Turn { n_sampled: Some(100), ..turn("so", TurnEnd::Cut) };
    assert_eq!(after(std::slice::from_ref(&long)), end("max-response-tokens", None));
    let unknown = Turn { n_sampled: None, ..turn(&"word ".repeat(90), TurnEnd::Cut) };
    assert_eq!(after(&[unknown]), end("max-response-tokens", None));
    assert_eq!(after(&[python(1), python(2), python(3)]), end("call-limit", None));
    assert_eq!(after(&[python(1), search(2), search(3), search(4)]), end("call-limit", None));
    let long = Turn { n_sampled: Some(100), ..python(1) };
    assert_eq!(after(&[long]), end("max-response-tokens", None));
}

#[test]
fn our_own_failures_are_no_answers() {
    let settings = settings(Results::Message);
    let mut agent = Agent::new("?", NAME, &settings);
    agent.said(turn("<search>a", TurnEnd::Unsaid));
    assert_eq!(agent.came_back(ToolOutcome::Unavailable, "no network"), Next::End);
    let record = agent.record(0.0).unwrap();
    assert_eq!((record.counts(), record.error.as_deref()), (false, Some("search: no network")));
    let mut agent = Agent::new("?", NAME, &settings);
    agent.is_lost("HTTP status 500".to_owned());
    let record = agent.record(0.0).unwrap();
    assert_eq!((record.stop.as_str(), record.counts()), (SERVER_UNAVAILABLE, false));
    let mut agent = Agent::new("?", NAME, &settings);
    agent.is_full();
    assert!(agent.record(0.0).unwrap().counts());
    assert!(Agent::new("?", NAME, &settings).record(0.0).is_none());
}
