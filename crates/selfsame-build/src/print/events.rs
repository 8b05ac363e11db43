//! A struct with a topic is an event.

use super::{CODEGEN, Printer, hex};
use crate::model::{Field, FieldKind, Node, Struct, Type};
use crate::names::snake;

impl Printer<'_> {
    /// `impl Topic`, if the struct has one.
    pub(super) fn event(&self, node: &Node, structure: &Struct) -> Vec<String> {
        let Some(topic) = structure.topics.first() else { return Vec::new() };
        let path = self.path(node);
        let key = match structure.fields.iter().position(|field| field.key) {
            Some(index) => self.key(node, index, &structure.fields[index]),
            None => Key {
                ty: "::core::convert::Infallible".to_owned(),
                bytes: "match key {}",
                of_event: "::core::option::Option::None".to_owned(),
            },
        };
        let bytes = "::std::vec::Vec<u8>";
        vec![
            format!("impl {CODEGEN}::Topic for {path}::Owned {{"),
            format!("    const NAME: &'static str = {topic:?};"),
            format!("    const TYPE_ID: u64 = {};", hex(node.id)),
            format!("    type Key<'k> = {};", key.ty),
            String::new(),
            format!("    fn key_bytes(key: Self::Key<'_>) -> {bytes} {{"),
            format!("        {}", key.bytes),
            "    }".to_owned(),
            String::new(),
            format!(
                "    fn key(event: {path}::Reader<'_>) -> {CODEGEN}::capnp::Result<::core::option::Option<{bytes}>> {{"
            ),
            format!("        ::core::result::Result::Ok({})", key.of_event),
            "    }".to_owned(),
            "}".to_owned(),
        ]
    }

    /// The key's bytes: a text as it is, the rest as the text that one would write by hand to subscribe; an enum by its number.
    fn key(&self, node: &Node, index: usize, field: &Field) -> Key {
        let name = snake(self.names.member(node.id, index).unwrap_or(&field.name));
        let FieldKind::Slot { ty, .. } = &field.kind else {
            unreachable!("`check` refuses a group as a key")
        };
        let (ty, bytes, of_event) = match ty {
            Type::Text => (
                "&'k str".to_owned(),
                "key.as_bytes().to_vec()",
                format!("event.get_{name}()?.as_bytes().to_vec()"),
            ),
            // An enum may have a value that only a newer contract knows.
            Type::Enum(_) => (
                self.owned_type(ty),
                "::std::string::ToString::to_string(&(key as u16)).into_bytes()",
                format!(
                    "match event.get_{name}() {{ ::core::result::Result::Ok(key) => Self::key_bytes(key), \
                     ::core::result::Result::Err({CODEGEN}::capnp::NotInSchema(key)) => ::std::string::ToString::to_string(&key).into_bytes() }}"
                ),
            ),
            _ => (
                self.owned_type(ty),
                "::std::string::ToString::to_string(&key).into_bytes()",
                format!("Self::key_bytes(event.get_{name}())"),
            ),
        };
        Key { ty, bytes, of_event: format!("::core::option::Option::Some({of_event})") }
    }
}

/// A key in Rust.
struct Key {
    /// Its type, with a lifetime `'k`.
    ty: String,
    /// From `key` to its bytes.
    bytes: &'static str,
    /// From `event` to those of its key.
    of_event: String,
}
