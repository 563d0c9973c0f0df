//! Children that run several calls at once.

use std::{
    io::{Read, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
};

use proptest::prelude::*;
use rustix::event::{PollFd, PollFlags, poll};

use super::{
    super::{channel::Channel, page::Ask, page::Cell},
    fake::{Bench, Stage, call, done, outcome},
};
use crate::{
    clock,
    pool::{Call, Lost, Pool, PoolNews},
};

/// The life of a child with lanes; its wait status, or `None` when it was killed.
pub(super) fn live(
    socket: OwnedFd,
    cell: Cell,
    stage: &Arc<Stage>,
    dead: &Arc<AtomicBool>,
) -> Option<i32> {
    let reader = socket.try_clone().unwrap();
    let mut channel = Channel::new(socket, cell).ok()?;
    let (mut bell, ringer) = UnixStream::pair().unwrap();
    let (sender, ended) = mpsc::channel::<(usize, u32, Call, String)>();
    let mut free: Vec<usize> = (0..stage.lanes.load(Ordering::Acquire) as usize).rev().collect();
    loop {
        while !free.is_empty()
            && let Some((seq, call)) = channel.next_call().unwrap()
        {
            if dead.load(Ordering::Acquire) {
                return None;
            }
            let lane = free.pop().unwrap();
            channel.start(lane, seq, clock::mono_us());
            let text = String::from_utf8(call.message.to_vec()).unwrap();
            if text == "segfault" {
                return Some(libc::SIGSEGV);
            }
            let (stage, dead, sender) = (stage.clone(), dead.clone(), sender.clone());
            let mut ringer = ringer.try_clone().unwrap();
            let finish = move || {
                let goes_on = text.strip_prefix("wait:").is_none_or(|gate| stage.pass(gate, &dead));
                if goes_on && sender.send((lane, seq, call, text)).is_ok() {
                    let _ = ringer.write_all(&[0]);
                }
            };
            std::thread::spawn(finish);
        }
        channel.ring().ok()?;
        let (from_parent, from_lanes) = {
            let mut fds = [PollFd::new(&reader, PollFlags::IN), PollFd::new(&bell, PollFlags::IN)];
            poll(&mut fds, None).unwrap();
            (!fds[0].revents().is_empty(), !fds[1].revents().is_empty())
        };
        if from_lanes {
            let mut rung = [0; 64];
            let count = bell.read(&mut rung).unwrap();
            for (lane, seq, call, text) in ended.iter().take(count) {
                let soft = channel.cell().is_asked(lane, seq, Ask::Soft);
                let text = if soft { "soft".to_owned() } else { text };
                channel.reply(seq, &outcome(&call, text), clock::mono_us()).unwrap();
                free.push(lane);
            }
            channel.ring().ok()?;
        }
        if from_parent && !channel.fill().unwrap_or(false) {
            return if dead.load(Ordering::Acquire) { None } else { Some(0) };
        }
    }
}

async fn until_started(bench: &mut Bench, keys: impl IntoIterator<Item = u64>) {
    for key in keys {
        bench.until(|n| matches!(n, PoolNews::Started { key: k, .. } if *k == key)).await;
    }
}

fn waits(keys: impl IntoIterator<Item = u64>) -> Vec<Call> {
    keys.into_iter().map(|k| call(k, &format!("wait:{k}"))).collect()
}

#[tokio::test]
async fn several_calls_run_at_once_in_a_child_and_end_in_any_order() {
    let mut bench = Bench::with_lanes(2, 3);
    bench.until_room(8).await;
    assert_eq!(bench.pool.slots(), 6);
    bench.pool.submit(waits(0..6)).unwrap();
    until_started(&mut bench, 0..6).await;
    assert_eq!(bench.pool.room(), 0, "nothing is queued behind long calls");
    for key in [5, 0, 3, 1, 4, 2] {
        bench.stage.open(&key.to_string());
        bench.until(done(key)).await;
    }
    assert_eq!(bench.notices, Vec::<String>::new());
}

#[tokio::test]
async fn what_waits_begins_when_any_lane_is_free() {
    let mut bench = Bench::with_lanes(1, 2);
    bench.until_room(3).await;
    bench.pool.submit(waits([1])).unwrap();
    until_started(&mut bench, [1]).await;
    let news = bench.run((10..500).map(|k| call(k, "x")).collect()).await;
    assert_eq!(news.iter().filter(|n| matches!(n, PoolNews::Done(_))).count(), 490);
    bench.stage.open("1");
    bench.until(done(1)).await;
}

#[tokio::test]
async fn a_dead_child_loses_all_that_it_had_begun_and_no_other_loses_any() {
    let mut bench = Bench::with_lanes(2, 3);
    bench.until_room(8).await;
    bench.pool.submit(waits(0..5)).unwrap();
    until_started(&mut bench, 0..5).await;
    // One lane is left, in the child with two.
    bench.pool.submit(vec![call(9, "segfault")]).unwrap();
    let mut lost = Vec::new();
    while lost.len() < 3 {
        let PoolNews::Lost { key, why, pid } =
            bench.until(|n| matches!(n, PoolNews::Lost { .. })).await
        else {
            unreachable!()
        };
        assert_eq!(why, Lost::Died("signal 11 (SIGSEGV)".into()));
        lost.push((pid, key));
    }
    assert!(lost.iter().all(|(pid, _)| *pid == lost[0].0), "{lost:?}");
    let lost: Vec<u64> = lost.into_iter().map(|(_, key)| key).collect();
    assert!(lost.contains(&9), "{lost:?}");
    for key in (0..5).filter(|key| !lost.contains(key)) {
        bench.stage.open(&key.to_string());
        bench.until(done(key)).await;
    }
    assert!(bench.seen.iter().all(|n| !matches!(n, PoolNews::Lost { .. })));
}

#[tokio::test]
async fn a_hard_limit_is_that_of_one_call_and_the_others_are_not_blamed() {
    let mut bench = Bench::with_lanes(1, 3);
    bench.until_room(4).await;
    let mut calls = waits(0..4);
    calls[1].hard_us = Some(30_000);
    calls[2].hard_us = Some(60_000_000);
    bench.pool.submit(calls).unwrap();
    bench.until(|n| matches!(n, PoolNews::Returned { key: 3 })).await;
    let mut ends = Vec::new();
    while ends.len() < 3 {
        if let PoolNews::Lost { key, why, .. } =
            bench.until(|n| matches!(n, PoolNews::Lost { .. })).await
        {
            ends.push((key, why));
        }
    }
    ends.sort_by_key(|(key, _)| *key);
    assert_eq!(ends, [(0, Lost::Beside), (1, Lost::TimeLimit(30_000)), (2, Lost::Beside)]);
    assert!(bench.run(vec![call(7, "x")]).await.iter().any(done(7)));
}

#[tokio::test]
async fn a_soft_limit_is_told_to_the_call_that_it_is_meant_for() {
    let mut bench = Bench::with_lanes(1, 3);
    bench.until_room(4).await;
    let mut calls = waits(0..3);
    calls[1].soft_us = Some(10_000);
    bench.pool.submit(calls).unwrap();
    until_started(&mut bench, 0..3).await;
    while bench.stage.soft.load(Ordering::Acquire) == 0 {
        let _ = tokio::time::timeout(std::time::Duration::from_millis(1), bench.pool.news()).await;
    }
    for (key, note) in [(2, "wait:2"), (1, "soft"), (0, "wait:0")] {
        bench.stage.open(&key.to_string());
        let PoolNews::Done(outcome) = bench.until(done(key)).await else { unreachable!() };
        assert_eq!(outcome.note, note);
    }
}

#[tokio::test]
async fn what_is_terminated_takes_others_with_it_only_as_bystanders() {
    let mut bench = Bench::with_lanes(1, 2);
    bench.until_room(3).await;
    bench.pool.submit(waits(0..2)).unwrap();
    until_started(&mut bench, 0..2).await;
    bench.pool.terminate(1, libc::SIGKILL);
    bench.until(|n| matches!(n, PoolNews::Lost { key: 1, why: Lost::Terminated(9), .. })).await;
    bench.until(|n| matches!(n, PoolNews::Lost { key: 0, why: Lost::Beside, .. })).await;
}

#[tokio::test]
async fn what_waits_behind_full_lanes_goes_to_a_child_that_idles() {
    let mut bench = Bench::with_lanes(2, 2);
    bench.until_room(6).await;
    // More short ones than lanes at both, then four long ones at one of them.
    bench.run((100..1_100).map(|k| call(k, "x")).collect()).await;
    let (mut ended, mut left) = (0, 30);
    bench.pool.submit(waits(0..3)).unwrap();
    until_started(&mut bench, 0..3).await;
    let mut more: Vec<Call> = (2_000..2_030).map(|k| call(k, "x")).collect();
    while ended < 30 {
        let room = bench.pool.room().min(left);
        left -= room;
        bench.pool.submit(more.split_off(more.len() - room)).unwrap();
        bench.more().await;
        for n in std::mem::take(&mut bench.seen) {
            match n {
                PoolNews::Done(_) => ended += 1,
                PoolNews::Returned { key } => {
                    left += 1;
                    more.push(call(key, "x"));
                }
                _ => {}
            }
        }
    }
    for key in 0..3 {
        bench.stage.open(&key.to_string());
        bench.until(done(key)).await;
    }
}

/// The kind of call that ends its process.
const DEADLY: u32 = 0;

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn every_call_ends_once_whatever_dies(
        lanes in 1usize..6,
        kinds in prop::collection::vec(0u32..20, 50..300),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let calls: Vec<Call> = kinds
            .iter()
            .enumerate()
            .map(|(key, kind)| call(key as u64, if *kind == DEADLY { "segfault" } else { "x" }))
            .collect();
        let (count, deaths) = (calls.len(), kinds.iter().filter(|kind| **kind == DEADLY).count());
        let news = runtime.block_on(async {
            let mut bench = Bench::with_lanes(2, lanes);
            bench.run(calls).await
        });
        let mut ended = vec![0; count];
        let mut lost = 0;
        for n in &news {
            match n {
                PoolNews::Done(o) => ended[o.key as usize] += 1,
                PoolNews::Lost { key, .. } => {
                    ended[*key as usize] += 1;
                    lost += 1;
                }
                _ => {}
            }
        }
        prop_assert!(ended.iter().all(|times| *times == 1));
        prop_assert!(lost >= deaths && lost <= deaths * lanes, "{lost} lost in {deaths} deaths");
    }
}
