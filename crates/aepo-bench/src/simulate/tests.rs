//! Does the simulation hold what it must?

use super::world::{Routing, Update};
use super::*;

/// A small fleet, of which any cache is large.
fn small(n_replicas: usize, n_trees: usize) -> Scenario {
    Scenario {
        fleet: crate::cases::simulate::fleet(n_replicas),
        work: assumed::AGENT,
        rule: Rule::Aepo,
        k: 8,
        n_trees,
        seed: 5,
    }
}

#[test]
fn the_same_seed_gives_the_same_line_and_another_does_not() {
    let scenario = small(3, 20);
    let line = |scenario: &Scenario| serde_json::to_string(&simulate(scenario).unwrap()).unwrap();
    let first = line(&scenario);
    assert_eq!(first, line(&scenario));
    assert_ne!(first, line(&Scenario { seed: 6, ..scenario }));
}

#[test]
fn one_replica_with_one_sequence_at_a_time_takes_the_sum_of_its_work() {
    // 4 trees of one path of one turn, prompts that cost nothing, 10 ms a step: seconds are tokens / 100.
    let mut scenario = small(1, 4);
    scenario.k = 1;
    scenario.work.calls = 0.0;
    scenario.fleet.max_in_flight = 1;
    scenario.fleet.read_secs_per_token = 0.0;
    let speed = &mut scenario.fleet.speed;
    (speed.step_secs, speed.secs_per_sequence, speed.secs_per_context_token) = (0.01, 0.0, 0.0);
    speed.secs_per_prompt_token = 0.0;
    let outcome = simulate(&scenario).unwrap();
    // A step for each prompt besides, and a round trip.
    let sampling = outcome.n_sampled as f64 * 0.01;
    assert!((outcome.secs - (sampling + 4.0 * (0.01 + assumed::ROUND_TRIP_SECS))).abs() < 1e-4, "{outcome:?}");
    assert!((outcome.batch * outcome.secs - sampling).abs() < 1e-4, "{outcome:?}");
    assert_eq!(outcome.n_waiting_max, 3);
    // Every prompt is the system's 512 tokens and 128 of its own; three find the former.
    assert_eq!((outcome.n_prompt, outcome.n_prompt - outcome.n_read), (4 * 640, 3 * 512));
}

#[test]
fn no_policy_and_no_death_changes_a_tree() {
    let calm = simulate(&small(4, 12)).unwrap();
    for routing in [Routing::Fifo, Routing::LeastBusy, Routing::RoundRobin, Routing::Random] {
        let mut scenario = small(4, 12);
        scenario.fleet.routing = routing;
        scenario.fleet.max_in_flight = 3;
        let outcome = simulate(&scenario).unwrap();
        assert_eq!((&outcome.trees, outcome.n_sampled), (&calm.trees, calm.n_sampled), "{routing:?}");
        assert!(outcome.hit < calm.hit, "{routing:?}: {} and {}", outcome.hit, calm.hit);
    }
    let mut scenario = small(4, 12);
    scenario.fleet.deaths = vec![(0, 5.0, 30.0), (2, 7.0, 1e6)];
    let storm = simulate(&scenario).unwrap();
    assert_eq!((&storm.trees, storm.n_sampled), (&calm.trees, calm.n_sampled));
    assert!(storm.n_failed_tries > 0 && storm.n_wasted > 0 && storm.n_read > calm.n_read, "{storm:?}");
    assert!(storm.secs > calm.secs);
}

#[test]
fn a_run_without_a_replica_ends_with_an_error_that_says_what_happened() {
    let mut scenario = small(2, 2);
    scenario.fleet.deaths = vec![(0, 1.0, 1e6), (1, 2.0, 1e6)];
    let error = simulate(&scenario).unwrap_err().to_string();
    assert!(error.contains("replica 0: connection") && error.contains("replica 1: connection"), "{error}");
}

#[test]
fn time_in_the_line_is_no_failure() {
    let mut scenario = small(1, 16);
    (scenario.fleet.max_in_flight, scenario.fleet.deadline_secs) = (4, 60.0);
    let outcome = simulate(&scenario).unwrap();
    assert!(outcome.line_secs[2] > 60.0, "{outcome:?}");
}

#[test]
fn other_weights_reach_every_replica_and_the_whole_model_stops_them() {
    let calm = simulate(&small(3, 12)).unwrap();
    let of = |bytes: f64, whole: bool| {
        let mut scenario = small(3, 12);
        scenario.fleet.updates = vec![Update { at_secs: 10.0, bytes, whole }];
        simulate(&scenario).unwrap()
    };
    let (lora, whole) = (of(assumed::lora_bytes(16), false), of(assumed::FULL_BYTES, true));
    for outcome in [&lora, &whole] {
        assert_eq!((&outcome.trees, outcome.n_sampled), (&calm.trees, calm.n_sampled));
        assert!(outcome.n_read > calm.n_read, "prefixes of other weights are of no use");
    }
    let load = |bytes| assumed::LOOK_SECS + assumed::ROUND_TRIP_SECS + world::load_secs(bytes, 3);
    assert!((lora.well_secs[1] - load(assumed::lora_bytes(16))).abs() < 1e-6, "{lora:?}");
    assert!(lora.request_secs[2] < 1.2 * calm.request_secs[2], "trees stay at home: {lora:?} {calm:?}");
    assert!(whole.well_secs[1] > load(assumed::FULL_BYTES), "what was begun is finished first: {whole:?}");
}

#[test]
fn lora_has_the_bytes_of_its_shapes() {
    // By hand for rank 16: (2·3584 + 2·(3584+512) + 2·3584 + 3·(3584+18944))·16·28 numbers of 4 bytes.
    assert_eq!(assumed::lora_bytes(16), 4.0 * 16.0 * 28.0 * (7168.0 + 8192.0 + 7168.0 + 67_584.0));
}
