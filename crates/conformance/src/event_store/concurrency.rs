//! Many at once: there is one order in which everything has happened, and everybody has seen that one.
//!
//! Who yields when follows from a seed, which a failure prints; `SILLAGE_SEED=n` takes that seed again. The threads
//! do not follow from it, so a failure that needs their luck may take some tries.

use std::sync::{Arc, Mutex};

use sillage_kernel::Position;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Fixture;
use crate::many::{Commands, Follower, History, SHARED, TellSeed, Told, Turns, Writer, read};

const WRITERS: usize = 8;
const APPENDS: usize = 40;
const READERS: usize = 3;
const FOLLOWERS: usize = 4;

/// Many write to a few streams with expectations and commands that they share, while others read and follow. Then
/// positions are unique and in order, versions have no gaps, every follower saw exactly the log, what an append
/// expected was so where it was taken and was not where it was refused, and each command was settled once.
pub async fn many_at_once_agree_on_one_order(fixture: impl Fixture) {
    let seed = TellSeed::new();
    let (store, commands) = (fixture.store(), Commands::new(seed.0));
    let history = Arc::new(Mutex::new(History::default()));
    let heard = Arc::clone(&history);
    let tell = Arc::new(move |told: Told| heard.lock().unwrap().hear(told));
    let (done, running) = watch::channel(());
    let (end, ended) = watch::channel(None);
    let (mut writers, mut others) = (JoinSet::new(), JoinSet::new());
    for n in 0..WRITERS {
        let mut writer = Writer { store: store.clone(), turns: Turns::new(seed.0, n), tell: tell.clone() };
        writers.spawn(async move {
            for round in 0..APPENDS {
                // All are at about the same commands at the same time, so that they meet.
                writer.round(&std::array::from_fn::<_, SHARED, _>(|n| commands.get(round + n))).await;
            }
        });
    }
    for n in 0..READERS {
        others.spawn(read(store.clone(), Turns::new(seed.0, WRITERS + n), running.clone()));
    }
    for number in 0..FOLLOWERS {
        let (store, tell) = (store.clone(), tell.clone());
        let turns = Turns::new(seed.0, WRITERS + READERS + number);
        let follower = Follower { store, turns, tell, number, cursor: Position::ZERO };
        others.spawn(follower.follow(ended.clone()));
    }
    writers.join_all().await;
    drop(done);
    end.send_replace(Some(store.head()));
    others.join_all().await;
    let history = std::mem::take(&mut *history.lock().unwrap());
    history.assert_all_decided();
    history.assert_agrees(&*store).await;
    drop(seed);
}
