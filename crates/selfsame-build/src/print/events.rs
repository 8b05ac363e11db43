//! A struct with a topic is an event.

use super::{CODEGEN, Printer, hex};
use crate::model::{Field, FieldKind, Node, Struct, Type};
use crate::names::snake;

impl Printer<'_> {
    /// `impl Topic`, if the struct has one.
    pub(super) fn event(&self, node: &Node, structure: &Struct) -> Vec<String> {
        let Some(topic) = structure.topics.first() else { return Vec::new() };
        let path = self.path(node);
        let key = structure.fields.iter().position(|field| field.key);
        let (argument, key) = match key {
            Some(index) => ("event", self.key(node, index, &structure.fields[index])),
            None => ("_", "::core::option::Option::None".to_owned()),
        };
        vec![
            format!("impl {CODEGEN}::Topic for {path}::Owned {{"),
            format!("    const NAME: &'static str = {topic:?};"),
            format!("    const TYPE_ID: u64 = {};", hex(node.id)),
            String::new(),
            format!(
                "    fn key({argument}: {path}::Reader<'_>) -> {CODEGEN}::capnp::Result<::core::option::Option<::std::vec::Vec<u8>>> {{"
            ),
            format!("        ::core::result::Result::Ok({key})"),
            "    }".to_owned(),
            "}".to_owned(),
        ]
    }

    /// The key's bytes: a text as it is, the rest as the text that one would write by hand to subscribe; an enum by its number.
    fn key(&self, node: &Node, index: usize, field: &Field) -> String {
        let name = snake(self.names.member(node.id, index).unwrap_or(&field.name));
        let bytes = match &field.kind {
            FieldKind::Slot { ty: Type::Text, .. } => format!("event.get_{name}()?.as_bytes().to_vec()"),
            FieldKind::Slot { ty: Type::Enum(_), .. } => format!(
                "match event.get_{name}() {{ ::core::result::Result::Ok(key) => key as u16, \
                 ::core::result::Result::Err({CODEGEN}::capnp::NotInSchema(key)) => key }}.to_string().into_bytes()"
            ),
            _ => format!("::std::string::ToString::to_string(&event.get_{name}()).into_bytes()"),
        };
        format!("::core::option::Option::Some({bytes})")
    }
}
