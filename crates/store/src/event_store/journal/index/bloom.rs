//! Hashes of names, and filters over them that say "certainly not" without a read.
//!
//! The hash has a key that nobody outside knows, so that whoever chooses names cannot make them collide. The key
//! stands in every run, and the function never changes: a filter from another program must answer the same.

use std::hash::Hasher;

use sillage_kernel::{StreamName, Tenant};

use crate::event_store::LedgerKey;

/// The key of all hashes of one index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::event_store::journal) struct HashKey(pub(super) u128);

/// The hash of a name.
pub(super) type Hash = u64;

/// No name contains this byte, since names are UTF-8.
const BETWEEN_NAMES: u8 = 0xff;

impl HashKey {
    pub(in crate::event_store::journal) fn random() -> Self {
        Self(uuid::Uuid::new_v4().as_u128())
    }

    pub(super) fn stream(self, tenant: &Tenant, stream: &StreamName) -> Hash {
        self.hash(&[tenant.as_str().as_bytes(), &[BETWEEN_NAMES], stream.as_str().as_bytes()])
    }

    pub(super) fn command(self, LedgerKey { tenant, principal, command_id }: &LedgerKey) -> Hash {
        let (tenant, principal) = (tenant.as_str().as_bytes(), principal.as_str().as_bytes());
        self.hash(&[command_id.0.as_bytes(), tenant, &[BETWEEN_NAMES], principal])
    }

    /// SipHash-2-4, which std offers with a key in no other way.
    #[expect(
        deprecated,
        reason = "it is deprecated for hash maps, whose hash must not be relied on; this one is fixed"
    )]
    fn hash(self, pieces: &[&[u8]]) -> Hash {
        let [low, high] = [self.0, self.0 >> 64]
            .map(|half| u64::try_from(half & u128::from(u64::MAX)).expect("it is masked to 64 bits"));
        let mut hasher = std::hash::SipHasher::new_with_keys(low, high);
        pieces.iter().for_each(|piece| hasher.write(piece));
        hasher.finish()
    }
}

/// How many bits of a filter one stream takes: three in a thousand that are not there are taken for there.
pub(super) const STREAM_BITS: u64 = 12;
/// How many bits of a filter one command takes: one in a thousand is taken for there.
pub(super) const COMMAND_BITS: u64 = 16;

const WORDS: usize = 8;
/// The bytes of one bucket: a cache line.
const BUCKET_BYTES: usize = WORDS * 8;

/// A set of hashes that may answer "perhaps" for one that is not in it, and never "no" for one that is. A hash sets
/// one bit in each word of one bucket.
pub(super) struct Bloom {
    buckets: Vec<[u64; WORDS]>,
}

impl Bloom {
    /// A filter for up to `count` hashes.
    pub(super) fn new(count: u64, bits: u64) -> Self {
        let buckets = (count * bits).div_ceil(BUCKET_BYTES as u64 * 8).max(1);
        Self { buckets: vec![[0; WORDS]; usize::try_from(buckets).expect("an index fits in memory")] }
    }

    pub(super) fn insert(&mut self, hash: Hash) {
        let at = self.bucket(hash);
        let bucket = self.buckets.get_mut(at).expect("there are as many buckets");
        bucket.iter_mut().zip(bits(hash)).for_each(|(word, bit)| *word |= bit);
    }

    pub(super) fn may_have(&self, hash: Hash) -> bool {
        let bucket = self.buckets.get(self.bucket(hash)).expect("there are as many buckets");
        bucket.iter().zip(bits(hash)).all(|(word, bit)| word & bit != 0)
    }

    pub(super) fn to_bytes(&self) -> impl Iterator<Item = [u8; 8]> {
        self.buckets.iter().flatten().map(|word| word.to_le_bytes())
    }

    /// The filter that [`Self::to_bytes`] gave; `None` if there is no whole bucket.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks::<8>();
        let (buckets, left) = words.as_chunks::<WORDS>();
        let buckets: Vec<_> = buckets.iter().map(|bucket| bucket.map(u64::from_le_bytes)).collect();
        (!buckets.is_empty() && left.is_empty() && rest.is_empty()).then_some(Self { buckets })
    }

    fn bucket(&self, hash: Hash) -> usize {
        let at = ((hash >> 32) * self.buckets.len() as u64) >> 32;
        usize::try_from(at).expect("it is less than the number of buckets")
    }
}

/// One bit for each word, from the half of the hash that chooses no bucket and some of the other.
fn bits(hash: Hash) -> impl Iterator<Item = u64> {
    (0..WORDS as u64).map(move |word| 1 << ((hash >> (6 * word)) & 63))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_what_it_was() {
        // The first rows of the reference vectors: key 00 01 … 0f, and the bytes 00 01 … as the text.
        let key = HashKey(0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100);
        assert_eq!(key.hash(&[]), 0x726f_db47_dd0e_0e31);
        assert_eq!(key.hash(&[&[0, 1, 2], &[3]]), 0xcf27_94e0_2771_87b7);
        let (one, other) = ("a".parse().unwrap(), "ab".parse().unwrap());
        let (long, short) = ("ab-c".parse().unwrap(), "b-c".parse().unwrap());
        assert_ne!(key.stream(&one, &long), key.stream(&other, &short));
    }

    #[test]
    fn a_filter_never_denies_what_it_has_and_mostly_what_it_has_not() {
        let key = HashKey(7);
        let hash = |n: u64| key.hash(&[&n.to_le_bytes()]);
        for (bits, tolerated) in [(STREAM_BITS, 600), (COMMAND_BITS, 200)] {
            let mut filter = Bloom::new(10_000, bits);
            (0..10_000).for_each(|n| filter.insert(hash(n)));
            let bytes: Vec<u8> = filter.to_bytes().flatten().collect();
            let filter = Bloom::from_bytes(&bytes).unwrap();
            assert!((0..10_000).all(|n| filter.may_have(hash(n))));
            let wrong = (10_000..110_000).filter(|n| filter.may_have(hash(*n))).count();
            assert!(wrong < tolerated, "{wrong} of 100,000 with {bits} bits");
        }
    }
}
