//! Which data folder a command is about.

use std::path::PathBuf;

use clap::Args;

/// The data folder, an argument that all commands share.
#[derive(Args)]
pub(crate) struct Data {
    /// The data folder of the server, where it keeps everything.
    #[arg(long, default_value = "./data", env = "SILLAGE_DATA", value_name = "DIR")]
    pub(crate) data: PathBuf,
}
