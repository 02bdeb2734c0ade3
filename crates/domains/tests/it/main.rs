//! What holds for the rules of all systems.

#![cfg(test)]

mod baselines;
mod frozen;
