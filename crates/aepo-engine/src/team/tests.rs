//! Does a team do all of its work, once, whoever comes and whatever happens?

use std::sync::atomic::AtomicU32;

use super::*;

fn team(n: usize) -> Team {
    Team::new(n).unwrap()
}

#[test]
fn every_chunk_is_worked_on_once() {
    for n_threads in [0, 1, 2, 3, 8] {
        let team = team(n_threads);
        assert_eq!(team.n_threads(), n_threads.max(1));
        for round in 0..2000 {
            let n = round % 37;
            let counts: Vec<AtomicU32> = (0..n).map(|_| AtomicU32::new(0)).collect();
            team.for_each(n, |i| {
                counts[i].fetch_add(1, Ordering::Relaxed);
            });
            assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1), "{n} chunks, {n_threads} threads");
        }
    }
}

#[test]
fn slices_are_cut_without_gaps_or_overlaps() {
    let team = team(3);
    for len in [0usize, 1, 5, 6, 7, 100] {
        let (mut a, mut b, mut c) = (vec![0u32; len], vec![0u64; 2 * len], vec![0u8; len.div_ceil(6)]);
        team.split(((&mut a[..], 6), ((&mut b[..], 12), (&mut c[..], 1))), |i, (a, (b, c))| {
            assert_eq!((b.len(), c.len()), (2 * a.len(), 1));
            a.iter_mut().for_each(|x| *x += i as u32 + 1);
            b.iter_mut().for_each(|x| *x += i as u64 + 1);
            c[0] += 1;
        });
        assert!(a.iter().enumerate().all(|(i, &x)| x as usize == i / 6 + 1));
        assert!(b.iter().enumerate().all(|(i, &x)| x as usize == i / 12 + 1));
        assert!(c.iter().all(|&x| x == 1));
    }
}

#[test]
#[should_panic(expected = "as many chunks")]
fn slices_of_other_numbers_of_chunks_are_not_cut_together() {
    team(1).split(((&mut [0u8; 6][..], 2), (&mut [0u8; 6][..], 3)), |_, _| ());
}

#[test]
fn each_thread_has_scratch_of_its_own() {
    let team = team(4);
    let mut counts = vec![0usize; 4];
    for _ in 0..500 {
        let mut out = vec![0; 64];
        team.split_with(&mut counts, (&mut out[..], 1), |count, i, out| {
            *count += 1;
            out[0] = i;
        });
        assert!(out.iter().enumerate().all(|(i, &x)| i == x));
    }
    assert_eq!(counts.iter().sum::<usize>(), 500 * 64);
}

#[test]
fn work_within_work_is_done_at_once() {
    let team = team(3);
    let count = AtomicU32::new(0);
    team.for_each(10, |_| {
        team.for_each(10, |_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
    });
    assert_eq!(count.load(Ordering::Relaxed), 100);
}

#[test]
fn two_callers_at_a_time_both_get_their_work_done() {
    let team = team(2);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..1000 {
                    let count = AtomicU32::new(0);
                    team.for_each(8, |_| {
                        count.fetch_add(1, Ordering::Relaxed);
                    });
                    assert_eq!(count.load(Ordering::Relaxed), 8);
                }
            });
        }
    });
}

#[test]
fn a_panic_is_passed_on_and_the_team_goes_on() {
    let team = team(3);
    for at in [0, 7, 99] {
        let result = catch_unwind(AssertUnwindSafe(|| {
            team.for_each(100, |i| assert!(i != at, "chunk {i}"));
        }));
        let text = *result.unwrap_err().downcast::<String>().unwrap();
        assert_eq!(text, format!("chunk {at}"));
        let count = AtomicU32::new(0);
        team.for_each(100, |_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.load(Ordering::Relaxed), 100);
    }
}

#[test]
fn those_who_sleep_are_woken() {
    let team = team(3);
    for _ in 0..20 {
        while team.shared.n_asleep.load(Ordering::SeqCst) < 2 {
            std::thread::yield_now();
        }
        // Two chunks that wait for each other need two threads: the caller alone would never be done.
        let inside = AtomicU32::new(0);
        team.for_each(2, |_| {
            inside.fetch_add(1, Ordering::SeqCst);
            while inside.load(Ordering::SeqCst) < 2 {
                std::thread::yield_now();
            }
        });
    }
}

#[test]
fn the_caller_sleeps_while_others_finish() {
    let team = team(2);
    let caller = std::thread::current().id();
    let others = AtomicU32::new(0);
    team.for_each(2, |_| {
        if std::thread::current().id() != caller {
            others.fetch_add(1, Ordering::SeqCst);
            // Much longer than the caller looks, so that it sleeps and must be woken.
            std::thread::sleep(Duration::from_millis(30));
        } else {
            while others.load(Ordering::SeqCst) == 0 {
                std::thread::yield_now();
            }
        }
    });
    assert_eq!(others.load(Ordering::SeqCst), 1);
}
