//! Two topics, as a contract would have them. Their events are texts, so that no generated code is needed here: a price is `key text`.

use capnp::any_pointer;
use capnp::introspect::{Introspect, Type};
use capnp::private::layout::PointerBuilder;
use capnp::traits::{Owned, SetterInput};
use selfsame::Topic;

macro_rules! text_event {
    ($event:ident, $name:literal, $id:literal, $key:expr) => {
        pub struct $event;

        impl Owned for $event {
            type Reader<'a> = any_pointer::Reader<'a>;
            type Builder<'a> = any_pointer::Builder<'a>;
        }

        impl Introspect for $event {
            fn introspect() -> Type {
                any_pointer::Owned::introspect()
            }
        }

        impl SetterInput<$event> for any_pointer::Reader<'_> {
            fn set_pointer_builder(to: PointerBuilder<'_>, from: Self, canonical: bool) -> capnp::Result<()> {
                <Self as SetterInput<any_pointer::Owned>>::set_pointer_builder(to, from, canonical)
            }
        }

        impl Topic for $event {
            const NAME: &'static str = $name;
            const TYPE_ID: u64 = $id;
            type Key<'k> = &'k str;

            fn key_bytes(key: &str) -> Vec<u8> {
                key.as_bytes().to_vec()
            }

            fn key(event: Self::Reader<'_>) -> capnp::Result<Option<Vec<u8>>> {
                let key: fn(&str) -> Option<&str> = $key;
                let text = event.get_as::<capnp::text::Reader<'_>>()?.to_str()?;
                Ok(key(text).map(|key| key.as_bytes().to_vec()))
            }
        }
    };
}

text_event!(Price, "price", 0xa1, |text| text.split(' ').next());
text_event!(News, "news", 0xa2, |_| None);
// The same topic, in the contract of somebody who never told us that he changed it.
text_event!(OtherPrice, "price", 0xa3, |_| Some("ann"));
// Two that the generator would have refused.
text_event!(Reserved, "selfsame.price", 0xa4, |_| None);
text_event!(Divided, "price/eur", 0xa5, |_| None);
