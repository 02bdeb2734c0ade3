//! What every engine of the event store keeps: the sentences of its contract, each as a property.
//!
//! [`event_store!`](crate::event_store!) turns them into tests. An engine brings a [`Fixture`].

pub mod appends;
pub mod concurrency;
pub mod contents;
pub mod cursors;
pub mod dropping;
pub mod durability;
pub mod expectations;
pub mod leases;
pub mod ledger;
pub mod model;
pub mod reading;
pub mod subscriptions;
pub(crate) mod things;
pub mod visibility;

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use sillage_store::EventStore;
use tokio::runtime::Runtime;

/// An engine under test, with an empty log that nobody else uses. It keeps alive whatever the log lives in.
pub trait Fixture: Sized + Send + 'static {
    /// The engine.
    fn store(&self) -> Arc<dyn EventStore>;

    /// The same log, opened anew by an engine that remembers nothing. Only asked of engines whose appends
    /// outlive the process, and only once every other handle to the store is gone.
    fn reopen(self) -> impl Future<Output = Self> + Send {
        async { panic!("an engine that states a durability must say how its log is opened again") }
    }

    /// Stops the disk until what is returned is dropped; `None` if this fixture cannot.
    fn hold_disk(&self) -> Option<Box<dyn HeldDisk>> {
        None
    }

    /// Makes the disk refuse whatever is written until what is returned is dropped; `None` if this fixture
    /// cannot. What the disk holds stays.
    fn break_disk(&self) -> Option<Box<dyn Send + Sync>> {
        None
    }

    /// Whether all that may be dropped is dropped at the first asking, once some KiB were appended behind it.
    fn drops_at_once(&self) -> bool {
        true
    }
}

/// A disk that confirms nothing. Dropping it lets the disk go on.
pub trait HeldDisk: Send + Sync {
    /// Whether the engine waits for the disk to confirm something.
    fn is_awaited(&self) -> bool;
}

/// Makes a module of tests that asks an engine for every property of the contract. `$open` is called once for
/// each test and makes its [`Fixture`].
///
/// After `together:` it is one test, which asks for some properties at a time, in one process: for an engine whose
/// server takes longer to start than a property to hold.
#[macro_export]
macro_rules! event_store {
    (together: $engine:ident, $open:expr $(,)?) => {
        $crate::event_store!(by event_store_test, $engine, $open);
    };
    ($engine:ident, $open:expr $(,)?) => {
        $crate::event_store!(by event_store_tests, $engine, $open);
    };
    (by $tests:ident, $engine:ident, $open:expr) => {
        mod $engine {
            #[allow(unused_imports, reason = "how to open an engine may need what stands around it")]
            use super::*;

            $crate::$tests! { $open;
                appends: an_append_is_atomic_over_its_streams;
                appends: versions_have_no_gaps_and_positions_grow;
                appends: appends_of_one_call_keep_their_order;
                appends: an_append_that_fails_does_not_touch_the_others;
                appends: a_chain_in_one_call_holds_until_a_link_fails;
                appends: calls_are_taken_in_the_order_in_which_they_were_made;
                appends: an_answer_that_nobody_awaits_undoes_nothing;
                appends: an_append_beyond_the_limits_is_invalid;
                appends: an_append_of_any_size_is_kept_whole_or_not_at_all;
                expectations: each_expectation_holds_or_conflicts;
                expectations: an_entry_without_events_only_checks;
                expectations: an_append_may_only_check;
                expectations: one_writer_of_many_gets_the_version;
                expectations: tenants_are_walls;
                contents: what_is_stored_comes_back_to_the_byte;
                contents: names_of_any_length_and_script_are_kept;
                contents: checksums_link_each_stream;
                contents: recorded_times_never_go_backwards;
                contents: what_is_brought_keeps_its_time;
                ledger: a_receipt_tells_what_became_of_a_command;
                ledger: a_receipt_names_the_versions_of_its_own_stream_only;
                ledger: a_repeated_command_gets_its_first_outcome;
                ledger: a_command_is_known_to_the_rest_of_its_call;
                ledger: one_id_sent_to_two_streams_wins_once;
                ledger: one_id_sent_by_many_at_once_wins_once;
                ledger: a_refused_append_leaves_its_command_unknown;
                ledger: another_tenant_or_principal_is_another_command;
                ledger: what_it_remembers_only_moves_forward;
                reading: a_stream_is_read_both_ways_in_pages;
                reading: the_log_is_read_in_pages_through_each_filter;
                reading: the_log_is_read_from_anywhere;
                reading: a_page_without_room_passes_nothing;
                reading: a_page_holds_so_many_bytes_and_no_more;
                reading: an_answer_that_is_not_fetched_holds_nobody_up;
                visibility: what_is_answered_can_be_read_at_once;
                visibility: nothing_appears_behind_the_head;
                visibility: an_append_is_seen_whole;
                visibility: a_stream_is_read_whole_while_it_grows;
                visibility: the_watermark_wakes_whoever_waits;
                cursors: a_reactor_never_heard_of_stands_before_the_first_event;
                cursors: a_cursor_takes_its_steps;
                cursors: what_was_skipped_is_forgotten_once_it_is_passed;
                cursors: a_step_beyond_the_limits_is_invalid;
                cursors: a_cursor_takes_no_position;
                leases: a_lease_has_one_holder;
                leases: one_of_many_gets_a_lease;
                leases: a_lease_passes_on_when_its_time_is_up;
                leases: a_prolonged_lease_is_held_for_longer;
                leases: whoever_asks_is_told_who_holds_a_lease;
                leases: whoever_holds_a_lease_may_write;
                leases: whoever_has_lost_a_lease_may_not_write;
                leases: a_lease_takes_no_position;
                subscriptions: following_the_log_has_no_seam;
                subscriptions: following_waits_for_what_is_new;
                subscriptions: following_loses_no_wake_up;
                subscriptions: following_passes_what_is_not_wanted;
                dropping: what_was_dropped_is_told_and_the_rest_is_whole;
                dropping: dropping_touches_nothing_but_contents;
                dropping: the_newest_event_of_a_stream_is_never_dropped;
                dropping: dropping_again_does_nothing;
                dropping: a_drop_beyond_the_limits_is_invalid;
                dropping: what_was_dropped_stays_dropped;
                dropping: followers_miss_nothing_that_is_kept;
                durability: reopening_changes_nothing;
                durability: the_log_goes_on_after_reopening;
                durability: leases_outlive_reopening;
                durability: an_empty_log_keeps_its_epoch;
                durability: nothing_is_told_before_it_is_durable;
                durability: what_cannot_be_kept_never_was;
                durability: a_full_queue_refuses_and_loses_nothing;
                concurrency: many_at_once_agree_on_one_order;
                model: random_appends_agree_with_a_model;
            }
        }
    };
}

/// The tests of [`event_store!`](crate::event_store!).
#[doc(hidden)]
#[macro_export]
macro_rules! event_store_tests {
    ($open:expr; $($group:ident: $property:ident;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $property() {
                let property = async { $crate::event_store::$group::$property(($open)().await).await };
                $crate::within_deadline(property).await;
            }
        )*
    };
}

/// The one test of [`event_store!`](crate::event_store!) for properties that are asked for together.
#[doc(hidden)]
#[macro_export]
macro_rules! event_store_test {
    ($open:expr; $($group:ident: $property:ident;)*) => {
        #[test]
        fn every_property_holds() {
            $crate::event_store::hold_together(&[$((stringify!($property), || {
                ::std::boxed::Box::pin(async { $crate::event_store::$group::$property(($open)().await).await })
            })),*]);
        }
    };
}

/// How many properties are asked for at a time. They mostly wait for the disk and for each other.
const AT_ONCE: usize = 4;

/// A property, with its name, of an engine.
#[doc(hidden)]
pub type Property = (&'static str, fn() -> Pin<Box<dyn Future<Output = ()>>>);

/// Asks for each property, on a thread of its name, and tells in the end which do not hold.
#[doc(hidden)]
pub fn hold_together(properties: &[Property]) {
    let (waiting, broken) = (Mutex::new(properties.iter()), Mutex::new(Vec::new()));
    let next = || waiting.lock().unwrap().next();
    let ask = |(name, property): &Property| {
        let begun = Instant::now();
        let asked = std::thread::scope(|scope| {
            let ask = || Runtime::new().unwrap().block_on(crate::within_deadline(property()));
            std::thread::Builder::new().name((*name).to_owned()).spawn_scoped(scope, ask).unwrap().join()
        });
        println!("{name}: {} ms", begun.elapsed().as_millis());
        if asked.is_err() {
            broken.lock().unwrap().push(*name);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| std::iter::from_fn(next).for_each(ask));
        }
    });
    let broken = broken.into_inner().unwrap();
    assert!(broken.is_empty(), "these do not hold: {broken:?}");
}
