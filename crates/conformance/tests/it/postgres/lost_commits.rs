//! Connections that fail while a group is committed: everybody hears what is true.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sillage_kernel::Expected;
use sillage_store::event_store::postgres::PostgresOptions;
use sillage_store::{AppendError, EventStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::answers::{Attempt, Load, add, append_one, assert_agrees, entry, new_command, settling, stream};
use super::{OPTIONS, OnPostgres, foreigner, open};

/// How often all connections of the nodes are ended.
const TERMINATIONS: usize = 60;

/// Every connection of both nodes is ended again and again, at any moment of what they do.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_terminated_at_any_moment_makes_no_answer_wrong() {
    let fixture = OnPostgres::new().await;
    let nodes: [Arc<dyn EventStore>; 2] = [fixture.store.clone(), open(&fixture.address, 9, OPTIONS()).await];
    let load = Load::start(&nodes, 8);
    let killer = foreigner(&fixture.address).await;
    let terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'sillage'";
    for round in 0..TERMINATIONS {
        // Now and then the nodes come to write something between.
        if round % 4 == 0 {
            load.goes_on(10).await;
        }
        killer.query(terminate, &[]).await.unwrap();
    }
    load.goes_on(10).await;
    let attempts = load.stop().await;
    assert_agrees(&nodes[1], &attempts).await;
}

/// What happens to the next COMMIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// It is carried out, and the connection ends before anybody hears so.
    AnswerLost,
    /// The connection ends before it reaches the server.
    CommitLost,
    /// It is carried out, and nothing is heard any more, though the connection stays.
    Silence,
    /// The node hangs with the lock of the log: nothing is sent any more, and the server keeps the connection.
    Hang,
}

/// However the connection fails at COMMIT, the answer is what became of it; and what comes behind it is written. Another
/// node goes on writing meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_commit_is_asked_for() {
    let fixture = OnPostgres::new().await;
    let proxy = Proxy::before(&fixture.address).await;
    let impatient = PostgresOptions { statement_timeout: Duration::from_secs(1), ..OPTIONS() };
    let node: Arc<dyn EventStore> = open(&proxy.address, 9, impatient).await;
    let other: Arc<dyn EventStore> = fixture.store.clone();
    let load = Load::start(&[Arc::clone(&other)], 1);
    let mut attempts = Vec::new();
    for fault in [Fault::AnswerLost, Fault::CommitLost, Fault::Silence, Fault::Hang, Fault::AnswerLost] {
        load.goes_on(1).await;
        add(&*node, "before").await.unwrap();
        let last = node.head();
        *proxy.fault.lock().unwrap() = Some(fault);
        let append = settling(&new_command(), vec![entry(&stream("faulty"), Expected::Any, 2)]);
        let behind = settling(&new_command(), vec![entry(&stream("behind"), Expected::Any, 1)]);
        let (answer, behind_answer) =
            tokio::join!(append_one(&*node, append.clone()), append_one(&*node, behind.clone()));
        assert_eq!(*proxy.fault.lock().unwrap(), None, "nothing was committed");
        match (fault, &answer) {
            (Fault::AnswerLost | Fault::Silence, Ok(appended)) => assert!(node.head() >= appended.position),
            (Fault::CommitLost | Fault::Hang, Err(AppendError::Unavailable(_))) => {
                assert!(node.head() >= last)
            }
            wrong => panic!("{wrong:?}"),
        }
        attempts.push(Attempt { append, answer });
        attempts.push(Attempt { append: behind, answer: behind_answer });
    }
    attempts.extend(load.stop().await);
    let refused = attempts.iter().filter(|attempt| attempt.answer.is_err()).count();
    assert!((2..=4).contains(&refused), "{refused} were refused");
    assert_faulty_agree(&other, attempts).await;
}

/// As [`assert_agrees`], past the events that stand before each fault.
async fn assert_faulty_agree(store: &Arc<dyn EventStore>, attempts: Vec<Attempt>) {
    let log = super::answers::follow(Arc::clone(store), store.head()).await;
    super::answers::assert_in_order(&log);
    for Attempt { append, answer } in &attempts {
        let key = append.ledger.as_ref().unwrap().key.clone();
        let known = store.look_up(vec![key]).await.unwrap().remove(0).map(|entry| entry.receipt);
        let ids = append.entries.iter().flat_map(|entry| &entry.events).map(|event| event.id);
        let there = ids.filter(|id| log.iter().any(|event| event.id == *id)).count();
        let wanted = append.entries.iter().map(|entry| entry.events.len()).sum();
        match answer {
            Ok(appended) => assert_eq!((there, known), (wanted, appended.receipt.clone())),
            Err(_) => assert_eq!((there, known), (0, None)),
        }
    }
}

/// Carries everything between nodes and the server, until a fault is wanted.
struct Proxy {
    address: String,
    fault: Arc<Mutex<Option<Fault>>>,
}

impl Proxy {
    async fn before(address: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (user, rest) = address.split_once('@').unwrap();
        let (server, database) = rest.split_once('/').unwrap();
        let own = format!("{user}@127.0.0.1:{port}/{database}");
        let fault = Arc::new(Mutex::new(None));
        let (server, faults) = (server.to_owned(), Arc::clone(&fault));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&server).await.unwrap();
                tokio::spawn(carry(client, server, Arc::clone(&faults)));
            }
        });
        Self { address: own, fault }
    }
}

/// A message of the simple protocol.
const COMMIT: &[u8] = b"Q\0\0\0\x0bCOMMIT\0";

async fn carry(client: TcpStream, server: TcpStream, faults: Arc<Mutex<Option<Fault>>>) -> io::Result<()> {
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let (mut asked, mut answered) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    loop {
        tokio::select! {
            read = from_client.read(&mut asked) => {
                let sent = &asked[..read?];
                if sent.is_empty() {
                    return Ok(());
                }
                let commit = sent.windows(COMMIT.len()).position(|window| window == COMMIT);
                let fault = commit.and_then(|at| Some((at, faults.lock().unwrap().take()?)));
                match fault {
                    None => to_server.write_all(sent).await?,
                    Some((at, Fault::CommitLost)) => return to_server.write_all(&sent[..at]).await,
                    Some((_, Fault::Hang)) => {
                        // Until the server has had enough of it, even after the client has.
                        while from_server.read(&mut answered).await? > 0 {}
                        return Ok(());
                    }
                    Some((_, fault)) => {
                        to_server.write_all(sent).await?;
                        // The server goes on to the end, whether or not anybody listens.
                        await_commit(&mut from_server).await?;
                        if fault == Fault::Silence {
                            // Until the client gives up.
                            while from_client.read(&mut asked).await? > 0 {}
                        }
                        return Ok(());
                    }
                }
            }
            read = from_server.read(&mut answered) => {
                let told = &answered[..read?];
                if told.is_empty() {
                    return Ok(());
                }
                to_client.write_all(told).await?;
            }
        }
    }
}

/// Reads until the server has said that a transaction was committed.
async fn await_commit(from_server: &mut (impl AsyncReadExt + Unpin)) -> io::Result<()> {
    let (mut said, done) = (Vec::new(), b"C\0\0\0\x0bCOMMIT\0");
    while !said.windows(done.len()).any(|window| window == done) {
        if from_server.read_buf(&mut said).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}
