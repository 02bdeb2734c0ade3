//! Which requests are traced: at most so many a second, however many come.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use sillage_store::clock;

/// The trace that a request belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// The W3C trace context that everything which comes of the request carries: it names the trace and, in it,
    /// the request's own first span.
    pub context: Box<str>,
    /// The context that the request brought, whose trace this is; empty if it began here.
    pub brought: Box<str>,
}

/// Picks requests to trace, and names their traces.
pub struct Sampler {
    per_second: u32,
    /// The second in the upper half, how many were picked in it in the lower.
    picked: AtomicU64,
    random: RandomState,
    count: AtomicU64,
}

impl Sampler {
    /// Picks at most so many requests a second; none at 0.
    pub fn new(per_second: u32) -> Self {
        Self { per_second, picked: AtomicU64::new(0), random: RandomState::new(), count: AtomicU64::new(0) }
    }

    /// The trace of a request, if it is picked: that which it brought, if that is sampled, or a new one.
    pub fn pick(&self, brought: Option<&str>) -> Option<Trace> {
        if self.per_second == 0 || !self.has_room() {
            return None;
        }
        let brought = brought.filter(|context| is_sampled(context)).unwrap_or_default();
        let [high, low, span] = self.random();
        let context = match brought.split('-').nth(1) {
            Some(trace) => format!("00-{trace}-{span:016x}-01"),
            None => format!("00-{high:016x}{low:016x}-{span:016x}-01"),
        };
        Some(Trace { context: context.into(), brought: brought.into() })
    }

    fn has_room(&self) -> bool {
        let second = clock::now().as_millis() / 1_000;
        let picked = self.picked.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |picked| {
            let count = if picked >> 32 == second & 0xffff_ffff { picked & 0xffff_ffff } else { 0 };
            (count < u64::from(self.per_second)).then_some(second << 32 | (count + 1))
        });
        picked.is_ok()
    }

    /// Numbers that differ from all others, none of them zero.
    fn random(&self) -> [u64; 3] {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        [0, 1, 2].map(|part| self.random.hash_one((part, count)) | 1)
    }
}

/// Whether it is a trace context of version 00 that its sender records.
fn is_sampled(context: &str) -> bool {
    let parts: Vec<_> = context.split('-').collect();
    let [version, trace, span, flags] = parts.as_slice() else { return false };
    let hex = |text: &str, len| text.len() == len && text.bytes().all(|b| b.is_ascii_hexdigit());
    let real = |text: &str| text.bytes().any(|b| b != b'0');
    *version == "00"
        && hex(trace, 32)
        && real(trace)
        && hex(span, 16)
        && real(span)
        && hex(flags, 2)
        && u8::from_str_radix(flags, 16).is_ok_and(|flags| flags & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_so_many_are_picked() {
        assert_eq!(Sampler::new(0).pick(None), None);
        let sampler = Sampler::new(5);
        // Two seconds may pass meanwhile, but not four hundred.
        let picked = (0..2_000).filter(|_| sampler.pick(None).is_some()).count();
        assert!((5..=15).contains(&picked), "{picked}");
    }

    #[test]
    fn a_sampled_context_is_carried_on_and_any_other_is_replaced() {
        let sampler = Sampler::new(1_000);
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let Trace { context, brought } = sampler.pick(Some(good)).unwrap();
        assert_eq!(&*brought, good);
        assert!(is_sampled(&context), "{context}");
        assert_eq!(context.get(..36), good.get(..36), "it stays in the trace");
        assert_ne!(&*context, good, "its own span has another name");
        for other in ["", "x", &good.replace("-01", "-00"), &good.replace("4bf9", "4bf")] {
            let Trace { context, brought } = sampler.pick(Some(other)).unwrap();
            assert!(is_sampled(&context) && brought.is_empty(), "{context} {brought}");
            assert_ne!(context.get(..36), good.get(..36));
        }
    }
}
