//! Tokens for made-up users: from a file, or from the program of the server.

use std::path::{Path, PathBuf};

use clap::Args;
use tokio::process::Command;

use crate::Failure;

/// Where tokens come from.
#[derive(Debug, Clone, Args)]
pub(crate) struct TokenArgs {
    /// A file with a token on each line, instead of asking the server's program for them.
    #[arg(long)]
    pub(crate) tokens: Option<PathBuf>,
    /// The data folder of the server, whose keys sign tokens.
    #[arg(long, default_value = "./data", env = "SILLAGE_DATA")]
    pub(crate) data: PathBuf,
    /// The program of the server.
    #[arg(long, default_value = "target/release/sillage")]
    pub(crate) server: PathBuf,
}

impl TokenArgs {
    /// Tokens for so many users.
    pub(crate) async fn get(&self, users: usize) -> Result<Vec<String>, Failure> {
        let Self { tokens, data, server } = self;
        let Some(file) = tokens else {
            let mut tokens = Vec::with_capacity(users);
            for user in 0..users {
                tokens.push(issue(server, data, &format!("u{user}")).await?);
            }
            return Ok(tokens);
        };
        let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let tokens: Vec<String> = lines.take(users).map(str::to_owned).collect();
        if tokens.len() < users {
            return Err(
                format!("{} has {} tokens, and {users} are needed", file.display(), tokens.len()).into()
            );
        }
        Ok(tokens)
    }
}

async fn issue(server: &Path, data: &Path, user: &str) -> Result<String, Failure> {
    let mut command = Command::new(server);
    command.args(["token", "--user", user, "--data"]).arg(data);
    let output = command.output().await;
    let output = output.map_err(|error| format!("{}: {error}; name it by --server", server.display()))?;
    if !output.status.success() {
        return Err(format!("no token: {}", String::from_utf8_lossy(&output.stderr).trim()).into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
