//! `sillage log` and `sillage tail`, with the real binary, beside a running server.

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use super::exports::{prints, sillage, whole_log, write_log};
use super::support::{Process, until, within};

#[tokio::test]
async fn the_log_is_printed_as_it_was_asked_for() {
    let folder = TempDir::new().unwrap();
    write_log(folder.path(), 400).await;
    let events = whole_log(folder.path()).await;
    // Nothing is locked.
    let _running = Process::start(folder.path());
    let all = prints(&["log"], folder.path());
    assert_eq!(all.lines().count(), 400);
    for (line, event) in all.lines().zip(&events) {
        let stream = match event.tenant.as_str() {
            "main" => event.stream.to_string(),
            tenant => format!("{tenant}/{}", event.stream),
        };
        let user = event.metadata.user_id.as_ref().map_or("-".to_owned(), ToString::to_string);
        let place = format!("{} {stream}@{} It/Happened·é {user} ", event.position, event.version);
        let (time, rest) = line.split_once(' ').unwrap();
        assert_eq!(time, event.recorded_at.to_string());
        let data = rest.trim_start().strip_prefix(&place).unwrap_or_else(|| panic!("{line} lacks {place}"));
        assert_eq!(data, event.data.replace(['\n', '\t'], " "));
    }
    let rows: [(&[&str], usize); 6] = [
        (&["--tenant", "south"], events.iter().filter(|e| e.tenant.as_str() == "south").count()),
        (&["--category", "like"], events.iter().filter(|e| e.stream.category() == "like").count()),
        (&["--stream", "like-7"], events.iter().filter(|e| e.stream.as_str() == "like-7").count()),
        (&["--type", "Other"], 0),
        (&["--from", "391"], 10),
        (&["--from", "101", "--limit", "17", "--type", "It/Happened·é"], 17),
    ];
    for (words, count) in rows {
        let part = prints(&[&["log"], words].concat(), folder.path());
        assert_eq!(part.lines().count(), count, "{words:?}");
        let json = prints(&[&["log", "--json"], words].concat(), folder.path());
        let positions =
            json.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["position"].clone());
        for (position, line) in positions.zip(part.lines()) {
            let (_, number) = position.as_str().unwrap().split_once(':').unwrap();
            assert_eq!(line.split_whitespace().nth(1), Some(number));
        }
        // The last of the same are what tail prints.
        if !words.contains(&"--from") {
            let last = prints(&[&["tail", "-n", "3"], words].concat(), folder.path());
            let expected: Vec<_> = part.lines().skip(count.saturating_sub(3)).collect();
            assert_eq!(last.lines().collect::<Vec<_>>(), expected, "{words:?}");
        }
    }
    assert_eq!(
        prints(&["tail"], folder.path()).lines().collect::<Vec<_>>(),
        all.lines().skip(390).collect::<Vec<_>>()
    );
    assert_eq!(prints(&["log", "--limit", "0"], folder.path()), "");
}

/// A `tail --follow`, and what it prints.
struct Following {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Following {
    fn start(words: &[&str], data: &Path) -> Self {
        let mut command = sillage(&[&["tail", "--follow"], words].concat(), data);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    async fn line(mut self) -> (Self, String) {
        let read = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            self.lines.read_line(&mut line).unwrap();
            (self, line)
        });
        within("a line", read).await.unwrap()
    }
}

async fn like(server: &Process, user: &str, target: &str) {
    let body = json!({"type": "LikeAdd", "commandId": Uuid::now_v7(), "likeId": "l-1", "targetId": target,
        "at": "2026-01-19T12:00:00Z"});
    let token = server.client.token(user, &[]);
    let (status, answer) = server.client.post("/api/social/likes", &token, body.to_string()).await;
    assert_eq!(status, 202, "{answer}");
}

#[tokio::test]
async fn following_prints_what_happens_until_it_is_interrupted() {
    let folder = TempDir::new().unwrap();
    let server = Process::start(folder.path());
    for n in 0..3 {
        like(&server, "anna", &format!("old-{n}")).await;
    }
    let following = Following::start(&["-n", "2", "--type", "LikeSetEvent"], folder.path());
    let (following, first) = following.line().await;
    assert!(first.contains(" 2 like-old-1@1 LikeSetEvent anna {"), "{first}");
    let (mut following, second) = following.line().await;
    assert!(second.contains(" 3 like-old-2@1 LikeSetEvent anna {"), "{second}");
    let mut slowest = Duration::ZERO;
    for n in 0..5 {
        like(&server, "bert", &format!("new-{n}")).await;
        let answered = Instant::now();
        let (next, line) = following.line().await;
        slowest = slowest.max(answered.elapsed());
        following = next;
        assert!(line.contains(&format!("like-new-{n}@1 LikeSetEvent bert {{")), "{line}");
    }
    // A second, and what a machine that does other things may take for itself.
    assert!(slowest < Duration::from_secs(3), "{slowest:?}");
    let pid = following.child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let ended = following.child.wait().unwrap();
    assert_eq!(ended.signal(), Some(2));
}

/// Whether or not there is anything to write, it ends when nobody reads any more, and says nothing about it.
#[tokio::test]
async fn following_ends_quietly_when_nobody_reads() {
    let folder = TempDir::new().unwrap();
    write_log(folder.path(), 100).await;
    let Following { mut child, mut lines } = Following::start(&["-n", "1"], folder.path());
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    drop(lines);
    let status = until("its end", || std::future::ready(child.try_wait().unwrap())).await;
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((status.code(), said.as_str()), (Some(0), ""));

    // More than a pipe holds, and a reader that is gone after the first line.
    write_log(folder.path(), 3_000).await;
    for words in [&["log", "--json"][..], &["export"]] {
        let mut command = sillage(words, folder.path());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ended = child.wait_with_output().unwrap();
        assert_eq!((ended.status.code(), ended.stderr), (Some(0), vec![]), "{words:?}");
    }
}
