//! A disk in memory that loses power: how it is tested that nothing acknowledged is lost.
//!
//! All that is random comes from [`Dice`] with a seed, so what went wrong once goes wrong again. It panics where a
//! test is at fault, and so belongs into tests.

#![allow(clippy::indexing_slicing, reason = "all of it is test code: a panic is a failed test")]

mod simulated_disk;

pub use simulated_disk::{Crash, Fault, Held, Lie, SECTOR_BYTES, SimulatedDisk};

/// Random numbers that follow from a seed, the same on every machine (SplitMix64).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The dice of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 up to, and without, `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.roll() % bound as u64).expect("it is below a usize")
    }

    /// Whether something happens that happens that often in a hundred times.
    pub fn percent(&mut self, often: usize) -> bool {
        self.below(100) < often
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}
