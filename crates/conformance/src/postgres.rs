//! A PostgreSQL server for tests: a real one, of the machine's package, in a temporary folder.
//!
//! Invariant: it ends with whoever started it, whatever way that goes: when it is dropped, and when the process dies.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::DEADLINE;

/// Where Debian has the servers, one folder for each version.
const VERSIONS: &str = "/usr/lib/postgresql";
/// The role that owns everything.
const OWNER: &str = "sillage";
/// Who runs the server where the tests run as root, which it refuses.
const ACCOUNT: &str = "postgres";
/// How often is looked whether it has come up.
const POLL: Duration = Duration::from_millis(5);

/// How a server is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Sessions are ended, and all is written down.
    Fast,
    /// Everything is left as it is, and mended at the next start.
    Immediate,
    /// It is killed, as if the machine had died.
    Kill,
}

impl Stop {
    const fn signal(self) -> &'static str {
        match self {
            Self::Fast => "-INT",
            Self::Immediate => "-QUIT",
            Self::Kill => "-KILL",
        }
    }
}

/// A server. Its disk is flushed as on any machine.
pub struct Server {
    folder: TempDir,
    programs: PathBuf,
    port: u16,
    settings: Vec<String>,
    running: Mutex<Option<Running>>,
    databases: AtomicU32,
}

struct Running {
    pid: u32,
    /// Lives as long as the server: the server is ended by the system when this thread is no more.
    waiter: JoinHandle<()>,
}

impl Server {
    /// The server that all tests of this process share. It goes with the last of them.
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap();
        if let Some(server) = shared.upgrade() {
            return server;
        }
        let server = Arc::new(Self::new());
        *shared = Arc::downgrade(&server);
        server
    }

    /// A server of one's own.
    #[allow(clippy::new_without_default, reason = "it starts a process")]
    pub fn new() -> Self {
        let server = Self::made();
        server.start();
        server
    }

    /// A server with the settings that it comes with, for measurements.
    pub fn with_defaults() -> Self {
        let (folder, programs) = (account_folder(), programs());
        init(&programs, &["--encoding=UTF8", "--locale=C"], &folder.path().join("data"));
        let server = Self::at(folder, programs, Vec::new());
        server.start();
        server
    }

    /// A server that speaks TLS, with the certificate and the key of these files.
    pub fn with_certificate(certificate: &Path, key: &Path) -> Self {
        let mut server = Self::made();
        for (setting, file) in [("ssl_cert_file", certificate), ("ssl_key_file", key)] {
            // It is read by the server's account, and nobody else may read a key.
            let own = server.folder.path().join(setting);
            let account = if is_root() { &["--owner", ACCOUNT][..] } else { &[] };
            run(Command::new("install").arg("--mode=0600").args(account).arg(file).arg(&own));
            server.settings.push(format!("{setting}={}", own.display()));
        }
        server.settings.push("ssl=on".to_owned());
        server.start();
        server
    }

    /// Made, and not started yet.
    fn made() -> Self {
        let (folder, programs) = (account_folder(), programs());
        copy(&fresh_data(&programs), &folder.path().join("data"));
        Self::at(folder, programs, vec!["max_connections=200".to_owned(), "shared_buffers=32MB".to_owned()])
    }

    /// On the data in a folder.
    fn at(folder: TempDir, programs: PathBuf, settings: Vec<String>) -> Self {
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let (running, databases) = (Mutex::new(None), AtomicU32::new(0));
        Self { folder, programs, port, settings, running, databases }
    }

    /// Makes an empty database, and answers its address.
    pub fn create_database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.run_sql("postgres", &format!("CREATE DATABASE {name}"));
        format!("postgres://{OWNER}@127.0.0.1:{}/{name}", self.port)
    }

    /// Runs a statement as the owner of everything.
    pub fn run_sql(&self, database: &str, statement: &str) {
        run(Command::new(self.programs.join("psql"))
            .args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--username", OWNER])
            .args(["--port", &self.port.to_string(), "--dbname", database, "--command", statement])
            .arg("--host")
            .arg(self.folder.path()));
    }

    /// Starts it again after [`Self::stop`], and waits until it takes connections.
    pub fn start(&self) {
        let deadline = Instant::now() + DEADLINE;
        let mut running = self.running.lock().unwrap();
        assert!(running.is_none(), "it is running");
        // What is left of one that was killed may be in the way for a moment.
        loop {
            let started = self.spawn();
            if self.comes_up(&started, deadline) {
                *running = Some(started);
                return;
            }
            started.waiter.join().unwrap();
            assert!(Instant::now() < deadline, "it does not start: {}", self.said());
        }
    }

    /// Stops it, and waits until it is gone.
    pub fn stop(&self, how: Stop) {
        if let Some(Running { pid, waiter }) = self.running.lock().unwrap().take() {
            run(Command::new("kill").args([how.signal(), &pid.to_string()]));
            waiter.join().unwrap();
        }
    }

    fn spawn(&self) -> Running {
        let mut command = as_account(&self.programs.join("postgres"));
        command.arg("-D").arg(self.data()).arg("-k").arg(self.folder.path());
        let own = [format!("port={}", self.port), "listen_addresses=127.0.0.1".to_owned()];
        for setting in own.iter().chain(&self.settings) {
            command.args(["-c", setting]);
        }
        let log = fs::File::options().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let (told, pid) = mpsc::channel();
        let waiter = std::thread::spawn(move || {
            let mut server = command.spawn().unwrap();
            told.send(server.id()).unwrap();
            server.wait().unwrap();
        });
        Running { pid: pid.recv().unwrap(), waiter }
    }

    /// Whether it takes connections in the end, which its file says in the last of its eight lines.
    fn comes_up(&self, Running { pid, waiter }: &Running, deadline: Instant) -> bool {
        let file = self.data().join("postmaster.pid");
        while !waiter.is_finished() {
            let said = fs::read_to_string(&file).unwrap_or_default();
            let mut lines = said.lines().map(str::trim);
            if lines.next() == Some(&pid.to_string()) && lines.nth(6) == Some("ready") {
                return true;
            }
            assert!(Instant::now() < deadline, "it does not come up: {}", self.said());
            std::thread::sleep(POLL); // tidy: sleep because nothing tells when it has come up
        }
        false
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn said(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop(Stop::Immediate);
    }
}

/// The programs of the newest version that is here.
fn programs() -> PathBuf {
    let versions = fs::read_dir(VERSIONS).into_iter().flatten().flatten();
    let number = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
    let newest = versions.map(|version| version.path()).max_by_key(number);
    newest.expect("PostgreSQL is not installed: run `cargo xtask test-tools`").join("bin")
}

/// The data of a server that was never started. It is made once, beside the tests that are built, since that takes
/// longer than most tests.
fn fresh_data(programs: &Path) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let version = programs.parent().and_then(Path::file_name).expect("it is below its version");
    let mut name = std::ffi::OsString::from("postgres-");
    name.push(version);
    let made = tests.with_file_name(name);
    if made.is_dir() {
        return made;
    }
    let folder = account_folder();
    let data = folder.path().join("data");
    init(programs, &["--no-sync", "--encoding=UTF8", "--locale=C", "--wal-segsize=1"], &data);
    let own = TempDir::new_in(tests.parent().expect("it is in a folder")).unwrap();
    copy(&data, &own.path().join("data"));
    // Another test may have been faster.
    if let Err(error) = fs::rename(own.path().join("data"), &made) {
        assert!(made.is_dir(), "{error}");
    }
    made
}

/// Makes the data of a server.
fn init(programs: &Path, wanted: &[&str], data: &Path) {
    let owner = format!("--username={OWNER}");
    let mut command = as_account(&programs.join("initdb"));
    run(command.args(wanted).args(["--auth=trust", &owner]).arg("--pgdata").arg(data));
}

/// Copies a folder with the owners of its files.
fn copy(from: &Path, to: &Path) {
    run(Command::new("cp").arg("--archive").arg(from).arg(to));
}

/// A folder of the account that servers run by.
fn account_folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    if is_root() {
        run(Command::new("chown").arg(ACCOUNT).arg(folder.path()));
    }
    folder
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// A program run by an account that a server may have, and interrupted when this thread ends.
fn as_account(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "INT"]);
    if is_root() {
        command.args(["--reuid", ACCOUNT, "--regid", ACCOUNT, "--clear-groups"]);
    }
    command.arg(program);
    // Where the tests run may be a folder that the account may not enter.
    command.current_dir("/");
    command
}

#[track_caller]
fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
