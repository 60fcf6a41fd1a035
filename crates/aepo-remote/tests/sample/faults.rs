//! Is no sample lost and none counted twice, whatever a replica does?

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use aepo::policy::{SampleRequest, Sampler};
use aepo::seed::Seed;
use aepo_remote::fakes::{Fake, Fault, Plays};
use aepo_remote::sample::{Key, RemoteSampler, SampleSettings};

use crate::support::{
    BOTH, aepo, assert_same, by_ids, connect, draws, engine, fake, grow, n_requests, settings, tasks,
};

/// Requests that met a fault.
fn n_faults(fakes: &[Fake]) -> u64 {
    fakes.iter().map(|fake| fake.counts().n_faults.load(Ordering::Relaxed)).sum()
}

#[test]
fn every_fault_gives_the_same_trees_and_is_counted() {
    let expected = grow(&mut engine(), &by_ids(), &tasks(4), &aepo()).unwrap();
    let n = n_requests(&by_ids(), &tasks(4), &aepo());
    let faults = [
        Fault::Slow(150),
        Fault::HangUp,
        Fault::Half,
        Fault::Twice,
        Fault::Astray,
        Fault::Short,
        Fault::Status(500),
        Fault::Status(503),
        Fault::Status(429),
    ];
    for plays in BOTH {
        for fault in faults {
            let fakes = [fake(plays), fake(plays)];
            let mut remote = connect(plays, &[&fakes[0], &fakes[1]]);
            fakes[0].fail(&[fault; 5]);
            fakes[1].fail(&[fault; 2]);
            let trees = grow(&mut remote, &by_ids(), &tasks(4), &aepo()).unwrap();
            assert_same(&trees, &expected, 0.0, 1e-5);
            let tally = remote.take_tally();
            assert_eq!(tally.n_completions, n, "{plays:?} {fault:?}: {tally:?}");
            let met = n_faults(&fakes);
            assert!(met >= 1, "{plays:?} {fault:?}: no request met it");
            let failed = if matches!(fault, Fault::Slow(_)) { 0 } else { met };
            assert_eq!(tally.n_failed_tries, failed, "{plays:?} {fault:?}: {tally:?}");
            // Nothing that was answered whole was thrown away or taken twice.
            let answered: u64 = fakes.iter().map(|f| f.counts().n_answered.load(Ordering::Relaxed)).sum();
            assert_eq!(answered, n + 4, "{plays:?} {fault:?}: two probes at each replica, and the rest");
        }
    }
}

#[test]
fn a_replica_that_dies_costs_its_requests_a_second_try_and_is_taken_back() {
    let expected = grow(&mut engine(), &by_ids(), &tasks(4), &aepo()).unwrap();
    for plays in BOTH {
        let mut fakes = [fake(plays), fake(plays)];
        let mut remote = connect(plays, &[&fakes[0], &fakes[1]]);
        fakes[0].kill();
        let trees = grow(&mut remote, &by_ids(), &tasks(4), &aepo()).unwrap();
        assert_same(&trees, &expected, 0.0, 1e-5);
        let tally = remote.take_tally();
        assert!(tally.n_failed_tries > 0, "{tally:?}");
        assert_eq!(tally.replicas[0].n_answers, 0, "{tally:?}");
        fakes[0].restart().unwrap();
        // It is looked at again after a pause, by whoever asks then.
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            let trees = grow(&mut remote, &by_ids(), &tasks(4), &aepo()).unwrap();
            assert_same(&trees, &expected, 0.0, 1e-5);
            if remote.take_tally().replicas[0].n_answers > 0 {
                break;
            }
            assert!(Instant::now() < until, "it was never asked again");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn a_storm_ends_in_an_error_that_names_every_replica_and_its_last_cause() {
    for plays in BOTH {
        let fakes = [fake(plays), fake(plays)];
        let all = settings(plays, &[&fakes[0], &fakes[1]]);
        let short = SampleSettings { deadline: Duration::from_millis(1200), ..all };
        let mut remote = RemoteSampler::connect(short).unwrap();
        fakes.iter().for_each(|fake| fake.always(Some(Fault::Status(503))));
        let since = Instant::now();
        let error = grow(&mut remote, &by_ids(), &tasks(4), &aepo()).unwrap_err().to_string();
        assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
        assert!(since.elapsed() >= Duration::from_millis(1200), "it gave up before its time: {error}");
        for part in [&fakes[0].url[..], &fakes[1].url, "HTTP status 503", "a fault on purpose", "deadline_secs"] {
            assert!(error.contains(part), "no {part:?}: {error}");
        }
        assert_eq!(remote.n_open(), 0);
        // The storm passes, and the same sampler goes on.
        fakes.iter().for_each(|fake| fake.always(None));
        let mut patience = 40;
        let trees = loop {
            match grow(&mut remote, &by_ids(), &tasks(1), &aepo()) {
                Ok(trees) => break trees,
                Err(error) if patience == 0 => panic!("{error}"),
                Err(_) => patience -= 1,
            }
        };
        assert_same(&trees, &grow(&mut engine(), &by_ids(), &tasks(1), &aepo()).unwrap(), 0.0, 1e-5);
    }
}

#[test]
fn a_request_that_is_refused_is_no_storm() {
    let fakes = [fake(Plays::Vllm), fake(Plays::Vllm)];
    let mut remote = connect(Plays::Vllm, &[&fakes[0], &fakes[1]]);
    fakes[0].fail(&[Fault::Status(400)]);
    let error = grow(&mut remote, &by_ids(), &tasks(1), &aepo()).unwrap_err().to_string();
    assert!(error.contains(&fakes[0].url) && error.contains("refuses: HTTP status 400"), "{error}");
}

#[test]
fn a_key_is_shown_nowhere() {
    let fakes = [fake(Plays::Vllm)];
    let secret = "sk-very-secret";
    let keyed = SampleSettings { key: Some(Key(secret.to_owned())), ..settings(Plays::Vllm, &[&fakes[0]]) };
    assert!(!format!("{keyed:?}").contains(secret));
    let mut remote = RemoteSampler::connect(keyed).unwrap();
    fakes[0].always(Some(Fault::Repeats));
    let error = grow(&mut remote, &by_ids(), &tasks(1), &aepo()).unwrap_err().to_string();
    assert!(error.contains("Bearer …") && !error.contains(secret), "{error}");
}

#[test]
fn no_server_at_all_is_said_at_once() {
    for plays in BOTH {
        let mut gone = fake(plays);
        gone.kill();
        let Err(error) = RemoteSampler::connect(settings(plays, &[&gone])) else { panic!("nobody is there") };
        let error = error.to_string();
        assert!(error.contains(&gone.url) && error.contains("no connection"), "{error}");
    }
    let bad = SampleSettings { urls: vec!["ftp://here".to_owned()], ..settings(Plays::Vllm, &[]) };
    assert!(RemoteSampler::connect(bad).is_err());
    assert!(RemoteSampler::connect(settings(Plays::Vllm, &[])).is_err());
}

#[test]
fn closing_a_path_in_flight_aborts_its_request_and_polling_neither_spins_nor_stalls() {
    for plays in BOTH {
        let fakes = [fake(plays)];
        let mut remote = connect(plays, &[&fakes[0]]);
        let n_before = fakes[0].counts().n_asked.load(Ordering::Relaxed);
        fakes[0].always(Some(Fault::Slow(600_000)));
        let path = remote.open(&[5, 6, 7]).unwrap();
        let (stop, params) = (by_ids(), draws());
        let request = SampleRequest { path, max_tokens: 9, stop, n_turn: 0, params, seed: Seed(1) };
        remote.submit(request.clone()).unwrap();
        assert!(remote.submit(request).is_err(), "one request at a time");
        let since = Instant::now();
        let mut n_polls = 0u32;
        while fakes[0].counts().n_asked.load(Ordering::Relaxed) == n_before || n_polls < 20 {
            assert!(remote.poll().unwrap().is_empty());
            n_polls += 1;
            assert!(since.elapsed() < Duration::from_secs(20), "the request never arrived");
        }
        // Each poll waits a little, and only a little.
        let mean = since.elapsed() / n_polls;
        assert!(mean >= Duration::from_millis(2) && mean < Duration::from_millis(500), "{mean:?}");
        remote.close(path);
        let until = Instant::now() + Duration::from_secs(20);
        while fakes[0].counts().n_aborted.load(Ordering::Relaxed) == 0 {
            assert!(Instant::now() < until, "the server was not told");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(remote.poll().unwrap().is_empty());
    }
}

#[test]
fn what_comes_too_late_is_asked_of_another_replica() {
    let fakes = [fake(Plays::Vllm), fake(Plays::Vllm)];
    let all = settings(Plays::Vllm, &[&fakes[0], &fakes[1]]);
    let impatient = SampleSettings { try_within: Duration::from_millis(700), ..all };
    let mut remote = RemoteSampler::connect(impatient).unwrap();
    fakes[0].always(Some(Fault::Slow(600_000)));
    let trees = grow(&mut remote, &by_ids(), &tasks(2), &aepo()).unwrap();
    assert_same(&trees, &grow(&mut engine(), &by_ids(), &tasks(2), &aepo()).unwrap(), 0.0, 1e-5);
    assert!(remote.take_tally().n_failed_tries > 0);
}
