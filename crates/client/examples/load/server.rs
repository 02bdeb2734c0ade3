//! A server of one's own, on a free port and in a folder that goes when it goes.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::Failure;
use crate::address::Address;
use crate::tokens::TokenArgs;

/// How long a server may need to begin, and to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server that was started here.
pub(crate) struct Server {
    child: Child,
    pub(crate) pid: u32,
    pub(crate) address: Address,
    folder: TempDir,
    program: std::path::PathBuf,
}

impl Server {
    /// Starts the program with a fresh folder in `dir`.
    pub(crate) async fn start(program: &Path, dir: &Path) -> Result<Self, Failure> {
        std::fs::create_dir_all(dir)?;
        let folder = tempfile::tempdir_in(dir)?;
        let mut command = Command::new(program);
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(folder.path());
        // What it logs in passing would stand between the results.
        command.env("SILLAGE_LOG", std::env::var("SILLAGE_LOG").unwrap_or("warn".to_owned()));
        let child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn();
        let mut child =
            child.map_err(|error| format!("{}: {error}; name it by --server", program.display()))?;
        let pid = child.id().ok_or("the server has ended at once")?;
        let stdout = child.stdout.take().ok_or("the server has no output")?;
        let mut lines = BufReader::new(stdout).lines();
        let address = loop {
            let line =
                timeout(PATIENCE, lines.next_line()).await??.ok_or("the server ended before it listened")?;
            if let Some((_, address)) = line.split_once("listening on ") {
                break address.parse()?;
            }
        };
        // Whatever else it prints is read, so that it never waits for that.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self { child, pid, address, folder, program: program.to_owned() })
    }

    /// Where tokens for it come from.
    pub(crate) fn tokens(&self) -> TokenArgs {
        TokenArgs { tokens: None, data: self.folder.path().to_owned(), server: self.program.clone() }
    }

    /// Asks it to end, and waits until it has.
    pub(crate) async fn stop(mut self) -> Result<(), Failure> {
        let asked = Command::new("kill").arg(self.pid.to_string()).status().await?;
        if !asked.success() {
            return Err(format!("process {} could not be asked to end", self.pid).into());
        }
        let ended = timeout(PATIENCE, self.child.wait()).await.map_err(|_| "the server does not end")??;
        if ended.success() { Ok(()) } else { Err(format!("the server ended badly: {ended}").into()) }
    }
}
