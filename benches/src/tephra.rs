//! tephra as a library. A stream is a tag, and its expected version is "no event with that tag after the last one seen".

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tephra::{
    AppendCondition, Event, EventType, Position, Query, QueryItem, SegmentConfig, SegmentSet, Tag, Tags,
    WriteCoordinator, WriteHandle, WriterConfig,
};

use crate::peer::{self, Peer, Seen};

/// As its own example has it.
const SEGMENT_BYTES: usize = 256 << 20;

struct Tephra {
    handle: WriteHandle,
    event_type: EventType,
    data: String,
}

impl Peer for Tephra {
    async fn append(&self, stream: usize, seen: Seen) -> u64 {
        let tag = Tag::new(peer::name(stream)).expect("a tag");
        let tags = Tags::new([tag]).expect("tags");
        let event = Event::new(&self.event_type, &tags, self.data.as_bytes()).expect("an event");
        let of_stream = Query::item(QueryItem::with_tags(tags));
        let condition = AppendCondition::new(of_stream).after(Position::new(seen.position));
        let appended = self.handle.append_async(vec![event], Some(condition)).await;
        appended.expect("it is appended").last.get()
    }
}

/// Durable events a second, with so many appends waiting.
pub fn measure(folder: &Path, waiting: usize, time: Duration) -> f64 {
    let set = SegmentSet::open(folder, SegmentConfig::new(SEGMENT_BYTES)).expect("a log");
    let (coordinator, handle) = WriteCoordinator::start(set, WriterConfig::default()).expect("a writer");
    let event_type = EventType::new("ThingHappened").expect("a type");
    let tephra = Tephra { handle, event_type, data: peer::data() };
    let rate = peer::block_on(peer::drive(Arc::new(tephra), waiting, time));
    coordinator.shutdown();
    rate
}
