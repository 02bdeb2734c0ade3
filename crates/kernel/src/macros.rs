//! Writes what each domain would otherwise write by hand: the names of its events beside their types.

/// Makes an enum of event structs, and teaches it to write and read itself by the name of its variants.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use sillage_kernel::DomainEvent;
///
/// #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
/// pub struct DoorOpened { by: String }
///
/// sillage_kernel::domain_events! {
///     /// What can happen to a door.
///     pub enum DoorEvent { DoorOpened }
/// }
///
/// let event = DoorEvent::from(DoorOpened { by: "alice".into() });
/// assert_eq!((event.event_type(), event.encode().as_str()), ("DoorOpened", r#"{"by":"alice"}"#));
/// assert!(DoorEvent::decode("DoorClosed", "{}").is_err());
/// ```
///
/// When the shape of an event changes, what stands in the log stays as it is; a function brings it to the new shape
/// whenever it is read, from schema 1 to 2, then from 2 to 3:
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use serde_json::{Value, json};
/// use sillage_kernel::DomainEvent;
///
/// #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
/// pub struct DoorOpened { by: String, wide: bool }
///
/// fn doors_opened_wide(mut data: Value) -> Value {
///     data["wide"] = json!(true);
///     data
/// }
///
/// sillage_kernel::domain_events! {
///     /// What can happen to a door.
///     pub enum DoorEvent { DoorOpened }
///     upcast { DoorOpened: [doors_opened_wide] }
/// }
///
/// assert_eq!(DoorEvent::schema("DoorOpened"), 2);
/// ```
#[macro_export]
macro_rules! domain_events {
    (
        $(#[$doc:meta])* $vis:vis enum $name:ident { $($event:ident),+ $(,)? }
        $(upcast { $($old:ident: [$($step:path),+ $(,)?]),+ $(,)? })?
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        $vis enum $name {
            $(#[allow(missing_docs, reason = "the struct has the docs")] $event($event),)+
        }

        $(impl ::core::convert::From<$event> for $name {
            fn from(event: $event) -> Self {
                Self::$event(event)
            }
        })+

        impl $crate::DomainEvent for $name {
            const TYPES: &'static [&'static str] = &[$(::core::stringify!($event)),+];

            fn event_type(&self) -> &'static str {
                match self {
                    $(Self::$event(_) => ::core::stringify!($event),)+
                }
            }

            fn encode(&self) -> ::std::string::String {
                match self {
                    $(Self::$event(event) => $crate::private::serde_json::to_string(event),)+
                }
                .expect("an event has only string keys and no failing parts")
            }

            fn decode(event_type: &str, data: &str) -> ::core::result::Result<Self, $crate::DecodeError> {
                let wrong = |reason: ::std::string::String| $crate::DecodeError {
                    event_type: event_type.into(),
                    reason,
                };
                match event_type {
                    $(::core::stringify!($event) => $crate::private::serde_json::from_str(data)
                        .map(Self::$event)
                        .map_err(|error| wrong(error.to_string())),)+
                    _ => Err(wrong("the type is not known".into())),
                }
            }

            $(fn upcasters() -> &'static [$crate::Upcaster] {
                &[$($crate::Upcaster { event_type: ::core::stringify!($old), steps: &[$($step),+] }),+]
            })?
        }
    };
}
