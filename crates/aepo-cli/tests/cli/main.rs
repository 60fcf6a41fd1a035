//! Does the real binary do what it says? Runs, resumed runs, bad input, and what is printed.

mod algo;
#[path = "../../../aepo-tools/tests/web/server.rs"]
#[expect(dead_code, reason = "the tests of web searches use more of it")]
mod api_server;
mod bad_input;
mod benchmarks;
mod cache;
mod chats;
mod compare;
mod data;
mod hub;
mod lora;
#[path = "../../../aepo-tools/tests/pages/server.rs"]
#[expect(dead_code, reason = "the tests of pages themselves use more of it")]
mod page_server;
mod printed;
#[path = "../../../aepo-tools/tests/openai/raw.rs"]
#[expect(dead_code, reason = "the tests of the API itself use more of it")]
mod raw;
mod remote;
mod room;
mod runs;
mod score;
mod search;
mod serve;
mod serve_rollouts;
#[path = "../../../aepo-tools/tests/served/server.rs"]
#[expect(dead_code, reason = "the tests of the client itself use more of it")]
mod served;
mod served_rollout;
mod served_train;
#[path = "../../../aepo-tools/tests/hub/server.rs"]
#[expect(dead_code, reason = "the tests of the download itself use more of it")]
mod server;
mod support;
mod tool;
mod visit;
