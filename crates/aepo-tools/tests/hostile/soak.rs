//! Do many calls at once, some of them hostile, leave nothing behind and every honest answer as it is?

#[path = "../../examples/soak/run.rs"]
mod run;

use aepo_tools::python::Backend;

use crate::suite::{alone, start};

fn stays_as_it_is(backend: Backend) {
    const N_AT_ONCE: usize = 16;
    let Some(executor) = start(backend, N_AT_ONCE) else { return };
    let without = run::soak(&executor, 300, N_AT_ONCE, false);
    let with = run::soak(&executor, 300, N_AT_ONCE, true);
    assert_eq!(with.hostile.values().sum::<usize>(), 300 / run::ONE_IN);
    assert!(!with.hostile.contains_key("Unavailable"), "{:?}", with.hostile);
    let differing = run::differences(&with, &without);
    assert_eq!(differing.len(), 0, "{:?} {:?}", with.honest[differing[0]], without.honest[differing[0]]);
    let [before, _, after] = with.figures;
    assert!(after.n_descriptors <= before.n_descriptors, "{:?}", with.figures);
    assert!(after.n_descriptors_below <= before.n_descriptors_below, "{:?}", with.figures);
    assert!(after.n_processes <= before.n_processes, "{:?}", with.figures);
    assert!(after.n_mounts <= before.n_mounts, "{:?}", with.figures);
    assert!(after.n_mounts_below <= before.n_mounts_below, "{:?}", with.figures);
    assert!(after.n_temporary <= before.n_temporary, "{:?}", with.figures);
    // An allocator keeps some of what it had; what each call leaked would be far more.
    assert!(after.memory_mb <= before.memory_mb + 64.0, "{:?}", with.figures);
    assert!(after.memory_below_mb <= before.memory_below_mb + 64.0, "{:?}", with.figures);
    assert!(with.worst_overrun_secs < 20.0, "a call overran its deadline by {} s", with.worst_overrun_secs);
    assert!(with.wall_secs < 600.0, "300 calls took {} s", with.wall_secs);
}

#[test]
fn namespaces_stay_as_they_are() {
    alone("soak::namespaces_stay_as_they_are", || stays_as_it_is(Backend::Namespaces));
}

#[test]
fn landlock_stays_as_it_is() {
    alone("soak::landlock_stays_as_it_is", || stays_as_it_is(Backend::Landlock));
}
