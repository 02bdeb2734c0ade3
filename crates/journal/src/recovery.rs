//! The judgement over the bytes of a segment: which batches are whole, and what the rest is.
//!
//! A pure function, so that every crash and every damage can be tried as bytes. It keeps one promise: what was
//! acknowledged is never cut silently when the bytes themselves can prove that it was acknowledged. The proof is
//! the `group_start` in each commit marker. A group is written only after the one before it is durable. So if a
//! batch is broken, and somewhere behind it stands the marker of a group that began later, the broken batch was
//! acknowledged, and this is damage. If nothing follows, or only batches of the same group, then the group was
//! being written when the machine stopped, nobody was told of it, and this is a torn tail.
//!
//! The marker alone is proof enough: the rest of its own group may be torn. The bytes cannot tell a torn last
//! group from one that was acknowledged and damaged afterwards; both are a torn tail.

use crate::{
    error::Reason,
    format::{
        Address, Batch, Boundary, Flaw, MARKER_BYTES, MARKER_KIND, Marker, Run, SEGMENT_HEADER_BYTES,
        decode_record,
    },
};

/// What a segment holds.
#[derive(Clone, Debug)]
pub struct Scan<'a> {
    /// The whole batches, in order.
    pub batches: Vec<Batch<'a>>,
    /// The offset in the segment where the last whole batch ends.
    pub end: usize,
    /// What follows it.
    pub tail: Tail,
}

/// What follows the last whole batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// Nothing, or only zero bytes: space that was set aside and not yet used.
    Clean,
    /// The remains of a group that was never acknowledged.
    Torn {
        /// Where the broken batch begins.
        at: Address,
        /// What is wrong with it.
        reason: Reason,
    },
    /// Acknowledged bytes that no longer read back.
    Damaged {
        /// Where the broken batch begins.
        at: Address,
        /// What is wrong with it.
        reason: Reason,
    },
    /// A sound record of a newer format.
    Unsupported {
        /// Where it begins.
        at: Address,
        /// Its format version.
        version: u8,
    },
}

/// Judges `bytes`, a whole segment whose header has been checked. `base` is the address of its first byte and
/// `next_batch` the number that its first batch must have.
#[must_use]
pub fn scan(bytes: &[u8], base: Address, next_batch: u64) -> Scan<'_> {
    let expected = Expected { number: next_batch, group_start: None };
    scan_from(bytes, base, SEGMENT_HEADER_BYTES.min(bytes.len()), expected)
}

/// As [`scan`], but only from a boundary on that lies behind the header; `None` if the batch before it does not
/// end there. What stands before that batch's marker is not looked at.
#[must_use]
pub fn scan_after(bytes: &[u8], base: Address, start: Boundary) -> Option<Scan<'_>> {
    let end = usize::try_from(start.at.offset_from(base)).ok()?;
    let marker_at = end.checked_sub(MARKER_BYTES).filter(|offset| *offset > SEGMENT_HEADER_BYTES)?;
    let mut scan = scan_behind(bytes.get(marker_at..)?, start)?;
    scan.end += marker_at;
    Some(scan)
}

/// As [`scan_after`], of bytes that begin with the marker before the boundary; the end is an offset in them.
#[must_use]
pub fn scan_behind(bytes: &[u8], start: Boundary) -> Option<Scan<'_>> {
    let marker_at = start.at.before(MARKER_BYTES)?;
    let marker = Marker::at_start_of(bytes.get(..MARKER_BYTES)?, marker_at)?;
    let expected = Expected { number: start.batches + 1, group_start: Some(marker.group_start) };
    marker.ends_at(start).then(|| scan_from(bytes, marker_at, MARKER_BYTES, expected))
}

/// The number of the batch that a segment begins with; `None` if it is not whole. For whoever goes on behind damage.
#[must_use]
pub fn first_number(bytes: &[u8]) -> Option<u64> {
    let mut rest = bytes.get(SEGMENT_HEADER_BYTES..)?;
    loop {
        let record = decode_record(rest, Address::default()).ok()?;
        if record.kind == MARKER_KIND {
            return Marker::from_record(&record).map(|marker| marker.number);
        }
        rest = rest.get(record.encoded_len()..)?;
    }
}

fn scan_from(bytes: &[u8], base: Address, offset: usize, mut expected: Expected) -> Scan<'_> {
    let mut scan = Scan { batches: Vec::new(), end: offset, tail: Tail::Clean };
    while let Some(rest) = bytes.get(scan.end..).filter(|rest| !rest.is_empty()) {
        let at = base.after(scan.end);
        match whole_batch(rest, at, expected) {
            Ok((batch, marker, len)) => {
                scan.batches.push(batch);
                scan.end += len;
                expected = Expected { number: marker.number + 1, group_start: Some(marker.group_start) };
            }
            Err(broken) => {
                scan.tail = judge(rest, at, expected.number, broken);
                break;
            }
        }
    }
    scan
}

/// What the next marker must say, besides matching its records.
#[derive(Clone, Copy)]
struct Expected {
    number: u64,
    /// The group of the batch before, which the next batch may belong to as well.
    group_start: Option<Address>,
}

/// Where in the bytes a batch turned out to be broken, and how.
struct Broken {
    offset: usize,
    flaw: Flaw,
}

/// Takes the batch that begins `bytes`, if the whole run up to its marker is valid.
fn whole_batch(bytes: &[u8], at: Address, expected: Expected) -> Result<(Batch<'_>, Marker, usize), Broken> {
    let (mut run, mut offset) = (Run::default(), 0);
    loop {
        let broken = |flaw| Broken { offset, flaw };
        let rest = bytes.get(offset..).expect("a decoded record lies within the bytes");
        let record = decode_record(rest, at.after(offset)).map_err(broken)?;
        let encoded = rest.get(..record.encoded_len()).expect("a decoded record lies within the bytes");
        if record.kind != MARKER_KIND {
            run.add(1, encoded);
            offset += encoded.len();
            continue;
        }
        let marker = Marker::from_record(&record)
            .filter(|marker| marker.closes(run))
            .ok_or_else(|| broken(Flaw::Broken(Reason::Marker)))?;
        let in_place = marker.group_start == at || Some(marker.group_start) == expected.group_start;
        if marker.number != expected.number || !in_place {
            return Err(broken(Flaw::Broken(Reason::Sequence)));
        }
        let run_bytes = bytes.get(..offset).expect("the run lies before its marker");
        let (number, count, checksum) = (marker.number, run.count(), run.checksum());
        let batch = Batch { number, address: at, count, checksum, run: run_bytes };
        return Ok((batch, marker, offset + encoded.len()));
    }
}

/// Decides what the bytes from a broken batch on are.
fn judge(bytes: &[u8], at: Address, number: u64, Broken { offset, flaw }: Broken) -> Tail {
    let reason = match flaw {
        Flaw::Unsupported(version) => return Tail::Unsupported { at: at.after(offset), version },
        Flaw::Short(_) => Reason::CutShort,
        Flaw::Broken(reason) => reason,
    };
    if bytes.iter().all(|byte| *byte == 0) {
        return Tail::Clean;
    }
    // No tear makes a sound batch with the wrong number: this is not what a crash leaves.
    if reason == Reason::Sequence || later_group_follows(bytes, at, number, offset) {
        return Tail::Damaged { at, reason };
    }
    Tail::Torn { at, reason }
}

/// Whether a marker of a group that began after `at` stands anywhere from `offset` on. Lengths can no longer be
/// trusted here, so every offset is tried.
fn later_group_follows(bytes: &[u8], at: Address, number: u64, offset: usize) -> bool {
    let suspect = bytes.get(offset..).unwrap_or_default();
    suspect.windows(MARKER_BYTES).enumerate().any(|(index, window)| {
        let here = at.after(offset + index);
        Marker::at_start_of(window, here).is_some_and(|marker| {
            marker.number > number && marker.group_start > at && marker.group_start < here
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{SegmentHeader, encode_record};

    const BASE: Address = Address::new(4096);
    const FIRST_BATCH: u64 = 7;

    /// A segment under construction, and where each batch and each group in it ends.
    #[derive(Clone)]
    struct Segment {
        bytes: Vec<u8>,
        batch_ends: Vec<usize>,
        group_ends: Vec<usize>,
    }

    /// Builds a segment; each group is a list of batches, each batch a list of payloads.
    fn segment(groups: &[&[&[&str]]]) -> Segment {
        let bytes = SegmentHeader { log_id: 1, base: BASE }.encode();
        let mut built = Segment { group_ends: vec![bytes.len()], batch_ends: vec![bytes.len()], bytes };
        let mut number = FIRST_BATCH;
        for group in groups {
            let group_start = BASE.after(built.bytes.len());
            for batch in *group {
                let start = built.bytes.len();
                for payload in *batch {
                    encode_record(&mut built.bytes, 3, 5, 9, payload.as_bytes());
                }
                let mut run = Run::default();
                run.add(u32::try_from(batch.len()).unwrap(), &built.bytes[start..]);
                Marker::new(number, run, group_start).encode(&mut built.bytes);
                built.batch_ends.push(built.bytes.len());
                number += 1;
            }
            built.group_ends.push(built.bytes.len());
        }
        built
    }

    #[derive(Debug, PartialEq)]
    enum Verdict {
        Clean,
        Torn,
        Damaged,
    }

    /// Scans and compares: how many batches are whole, where they end, what follows.
    #[track_caller]
    fn check(name: &str, built: &Segment, bytes: &[u8], batches: usize, verdict: Verdict) {
        let scan = scan(bytes, BASE, FIRST_BATCH);
        assert_eq!(scan.batches.len(), batches, "{name}: batches");
        assert_eq!(scan.end, built.batch_ends[batches], "{name}: end");
        let found = match scan.tail {
            Tail::Clean => Verdict::Clean,
            Tail::Torn { at, .. } => {
                assert_eq!(at, BASE.after(scan.end), "{name}: torn at");
                Verdict::Torn
            }
            Tail::Damaged { at, .. } => {
                assert_eq!(at, BASE.after(scan.end), "{name}: damaged at");
                Verdict::Damaged
            }
            Tail::Unsupported { .. } => panic!("{name}: unsupported"),
        };
        assert_eq!(found, verdict, "{name}: tail");
        for (number, batch) in (FIRST_BATCH..).zip(&scan.batches) {
            assert_eq!(batch.number(), number, "{name}: number");
            assert_eq!(batch.records().count(), usize::try_from(batch.count()).unwrap(), "{name}: records");
        }
    }

    fn example() -> Segment {
        segment(&[&[&["a", "bb"]], &[&["ccc"], &["", "dddd"]], &[&["e"], &["ff", "g"], &["hhhhhhhhhh"]]])
    }

    #[test]
    fn whole_segments_are_clean() {
        let rows: &[&[&[&[&str]]]] = &[&[], &[&[&["a"]]], &[&[&["a"], &["b"]], &[&["c", "", "d"]]]];
        for groups in rows {
            let built = segment(groups);
            let batches = built.batch_ends.len() - 1;
            check("whole", &built, &built.bytes, batches, Verdict::Clean);
            let mut padded = built.bytes.clone();
            for zeros in 1..100 {
                padded.push(0);
                check(&format!("{zeros} zeros"), &built, &padded, batches, Verdict::Clean);
            }
        }
    }

    #[test]
    fn a_batch_yields_what_was_written() {
        let built = segment(&[&[&["a", "bb"]]]);
        let scan = scan(&built.bytes, BASE, FIRST_BATCH);
        let records: Vec<_> = scan.batches[0].records().collect();
        let found: Vec<_> =
            records.iter().map(|r| (r.address.get(), r.kind, r.flags, r.key_id, r.payload)).collect();
        assert_eq!(found, [(4136, 3, 5, 9, &b"a"[..]), (4153, 3, 5, 9, b"bb")]);
    }

    #[test]
    fn torn_at_every_offset_of_the_last_group() {
        let built = example();
        for cut in built.group_ends[2]..built.bytes.len() {
            let whole = built.batch_ends.iter().filter(|end| **end <= cut).count() - 1;
            let verdict = if built.batch_ends.contains(&cut) { Verdict::Clean } else { Verdict::Torn };
            check(&format!("cut at {cut}"), &built, &built.bytes[..cut], whole, verdict);

            // The length may reach the disk before the bytes do. A byte that was zero anyway tears nothing.
            let mut zeroed = built.bytes.clone();
            zeroed[cut..].fill(0);
            let whole = whole_prefix(&built, &zeroed);
            let empty = zeroed[built.batch_ends[whole]..].iter().all(|byte| *byte == 0);
            let verdict = if empty { Verdict::Clean } else { Verdict::Torn };
            check(&format!("zeros from {cut}"), &built, &zeroed, whole, verdict);
        }
    }

    /// How many batches have none of their bytes changed, counted up to the first that has.
    fn whole_prefix(built: &Segment, bytes: &[u8]) -> usize {
        let changed = built.bytes.iter().zip(bytes).position(|(a, b)| a != b).unwrap_or(bytes.len());
        built.batch_ends.iter().filter(|end| **end <= changed).count() - 1
    }

    #[test]
    fn a_flipped_byte_in_an_acknowledged_group_is_damage() {
        let built = example();
        for offset in SEGMENT_HEADER_BYTES..built.bytes.len() {
            for mask in [0x01, 0x80, 0xff] {
                let mut bytes = built.bytes.clone();
                bytes[offset] ^= mask;
                let last_group = offset >= built.group_ends[2];
                let verdict = if last_group { Verdict::Torn } else { Verdict::Damaged };
                let whole = whole_prefix(&built, &bytes);
                check(&format!("flip {mask:#x} at {offset}"), &built, &bytes, whole, verdict);
            }
        }
    }

    #[test]
    fn damage_is_seen_behind_a_torn_last_group() {
        let built = example();
        let mut bytes = built.bytes.clone();
        bytes[built.group_ends[1] + 20] ^= 1;
        check(
            "first marker of the last group whole",
            &built,
            &bytes[..built.batch_ends[4]],
            1,
            Verdict::Damaged,
        );
        // The records of that batch are gone too, but its marker still proves that the group began.
        bytes[built.group_ends[2]] ^= 1;
        check("only a marker left", &built, &bytes[..built.batch_ends[4]], 1, Verdict::Damaged);
        check("no marker left", &built, &bytes[..built.batch_ends[4] - 1], 1, Verdict::Torn);
    }

    #[test]
    fn same_group_damage_before_an_intact_batch_is_torn() {
        let built = segment(&[&[&["a"]], &[&["b"], &["c"], &["d"]]]);
        let mut bytes = built.bytes.clone();
        bytes[built.batch_ends[2] + 16] ^= 1;
        check("middle batch of the last group", &built, &bytes, 2, Verdict::Torn);
        bytes[built.batch_ends[2]..built.batch_ends[3]].fill(0);
        check("middle batch zero", &built, &bytes, 2, Verdict::Torn);
    }

    /// Each record is sound by itself; only the marker knows what the batch was.
    #[test]
    fn records_exchanged_within_a_batch_are_noticed() {
        let built = segment(&[&[&["aa", "bb"]], &[&["c"]]]);
        let (start, len) = (SEGMENT_HEADER_BYTES, 18);
        let mut bytes = built.bytes.clone();
        bytes[start..start + 2 * len].rotate_left(len);
        check("exchanged", &built, &bytes, 0, Verdict::Damaged);
        bytes.truncate(built.batch_ends[1]);
        check("exchanged in the last group", &built, &bytes, 0, Verdict::Torn);
    }

    #[test]
    fn a_sound_batch_out_of_sequence_is_damage() {
        let built = segment(&[&[&["a"]], &[&["b"]]]);
        let mut missing = built.bytes[..SEGMENT_HEADER_BYTES].to_vec();
        missing.extend_from_slice(&built.bytes[built.batch_ends[1]..]);
        check("the first batch is missing", &built, &missing, 0, Verdict::Damaged);
        let mut twice = built.bytes.clone();
        twice.extend_from_slice(&built.bytes[built.batch_ends[1]..]);
        check("the last batch stands twice", &built, &twice, 2, Verdict::Damaged);
    }

    #[test]
    fn a_sound_batch_of_an_impossible_group_is_damage() {
        for group_start in [0, SEGMENT_HEADER_BYTES, 1000] {
            let mut built = segment(&[&[&["a"]], &[&["b"]]]);
            let (first, second) = (built.batch_ends[1], built.batch_ends[2]);
            built.bytes.truncate(second - MARKER_BYTES);
            let mut run = Run::default();
            run.add(1, &built.bytes[first..]);
            Marker::new(FIRST_BATCH + 1, run, BASE.after(group_start)).encode(&mut built.bytes);
            // The group of the batch before is possible: then both were written together.
            let possible = group_start == SEGMENT_HEADER_BYTES;
            let (batches, verdict) = if possible { (2, Verdict::Clean) } else { (1, Verdict::Damaged) };
            check(&format!("group at {group_start}"), &built, &built.bytes, batches, verdict);
        }
    }

    /// A record may hold the bytes of a log; as long as it is whole, they are not looked at.
    #[test]
    fn a_marker_inside_a_sound_payload_proves_nothing() {
        let mut inner = Vec::new();
        let mut run = Run::default();
        run.add(1, b"x");
        Marker::new(FIRST_BATCH + 5, run, BASE.after(50)).encode(&mut inner);
        let mut bytes = SegmentHeader { log_id: 1, base: BASE }.encode();
        encode_record(&mut bytes, 1, 0, 0, &inner);
        let built = segment(&[]);
        check("torn before the marker", &built, &bytes, 0, Verdict::Torn);
    }

    #[test]
    fn a_newer_record_format_is_never_cut() {
        let built = segment(&[&[&["a"]]]);
        let mut bytes = built.bytes.clone();
        let start = bytes.len();
        encode_record(&mut bytes, 1, 0, 0, b"new");
        bytes[start + 8] = 2;
        let crc = crc32c::crc32c(&bytes[start + 8..]);
        bytes[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
        let found = scan(&bytes, BASE, FIRST_BATCH).tail;
        assert_eq!(found, Tail::Unsupported { at: BASE.after(start), version: 2 });
    }
}
