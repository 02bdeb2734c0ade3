//! What a process takes of the machine, as `/proc` tells it.

use std::fs;
use std::time::Duration;

use crate::Failure;

/// `/proc` counts in hundredths of a second on every Linux that there is.
const TICKS_A_SECOND: u64 = 100;

/// A process that is running.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process(u32);

impl Process {
    pub(crate) fn new(pid: u32) -> Self {
        Self(pid)
    }

    /// This program.
    pub(crate) fn own() -> Self {
        Self(std::process::id())
    }

    /// How long it has had a processor, in the kernel and outside it.
    pub(crate) fn cpu(self) -> Result<Duration, Failure> {
        let text = self.read("stat")?;
        // The name before it may hold anything, but ends with the last bracket.
        let after_name = text.rsplit_once(')').map_or("", |(_, rest)| rest);
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
        match (ticks(11), ticks(12)) {
            (Some(user), Some(system)) => Ok(Duration::from_millis((user + system) * 1_000 / TICKS_A_SECOND)),
            _ => Err(format!("/proc/{}/stat has another shape", self.0).into()),
        }
    }

    /// How many bytes of memory it occupies.
    pub(crate) fn resident_bytes(self) -> Result<u64, Failure> {
        let text = self.read("status")?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kib.map(|kib| kib * 1_024).ok_or_else(|| format!("/proc/{}/status has no VmRSS", self.0).into())
    }

    fn read(self, file: &str) -> Result<String, Failure> {
        let path = format!("/proc/{}/{file}", self.0);
        fs::read_to_string(&path).map_err(|error| format!("{path}: {error}").into())
    }
}

/// Measures what processes take during something.
pub(crate) struct Meter {
    began: std::time::Instant,
    own: Duration,
    server: Option<(Process, Duration)>,
}

/// What was taken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taken {
    pub(crate) time: Duration,
    /// By this program.
    pub(crate) own: Duration,
    /// By the server, if its process is known.
    pub(crate) server: Option<Duration>,
}

impl Meter {
    pub(crate) fn start(server: Option<Process>) -> Result<Self, Failure> {
        let server = server.map(|process| process.cpu().map(|cpu| (process, cpu))).transpose()?;
        Ok(Self { began: std::time::Instant::now(), own: Process::own().cpu()?, server })
    }

    pub(crate) fn stop(self) -> Result<Taken, Failure> {
        let time = self.began.elapsed();
        let own = Process::own().cpu()?.saturating_sub(self.own);
        let since =
            |(process, before): (Process, Duration)| process.cpu().map(|now| now.saturating_sub(before));
        Ok(Taken { time, own, server: self.server.map(since).transpose()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_takes_something() {
        assert!(Process::own().resident_bytes().unwrap() > 100_000);
        let began = Process::own().cpu().unwrap();
        while Process::own().cpu().unwrap() == began {
            std::hint::spin_loop();
        }
    }
}
