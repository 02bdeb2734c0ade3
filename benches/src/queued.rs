//! The limit for callers that wait: their events go through a queue to one thread, which writes all that has come in one go,
//! flushes, and answers. No check, no checksum, no numbers: what is left is the disk, the queue and the waking of callers.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::peer::{self, EVENT_BYTES, Peer, Seen};

struct Job {
    data: String,
    answer: oneshot::Sender<u64>,
}

struct Queued {
    jobs: Sender<Job>,
    data: String,
}

impl Peer for Queued {
    async fn append(&self, _: usize, _: Seen) -> u64 {
        let (answer, appended) = oneshot::channel();
        self.jobs.send(Job { data: self.data.clone(), answer }).expect("the writer lives");
        appended.await.expect("it is appended")
    }
}

/// Durable events a second, with so many appends waiting.
pub fn measure(folder: &Path, waiting: usize, time: Duration) -> f64 {
    let file = File::create(folder.join("queued")).expect("a file");
    let (jobs, queue) = mpsc::channel();
    let writer = thread::spawn(move || write(&file, &queue));
    let queued = Queued { jobs, data: peer::data() };
    let rate = peer::block_on(peer::drive(Arc::new(queued), waiting, time));
    writer.join().expect("the writer ends");
    rate
}

fn write(file: &File, queue: &Receiver<Job>) {
    let (mut end, mut position) = (0, 0);
    let (mut group, mut answers) = (Vec::with_capacity(EVENT_BYTES), Vec::new());
    while let Ok(first) = queue.recv() {
        group.clear();
        for Job { data, answer } in std::iter::once(first).chain(queue.try_iter()) {
            group.extend_from_slice(data.as_bytes());
            answers.push(answer);
        }
        file.write_all_at(&group, end).expect("room for a group");
        file.sync_data().expect("a flush");
        end += group.len() as u64;
        for answer in answers.drain(..) {
            position += 1;
            // Nobody who waits has gone.
            let _ = answer.send(position);
        }
    }
}
