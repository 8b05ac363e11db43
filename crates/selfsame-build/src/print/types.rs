//! Paths and types.

use super::{CODEGEN, Printer};
use crate::model::{Binding, Kind, Node, Place, Primitive, StructRef, Type};
use crate::normalise::ROOT;

impl Printer<'_> {
    /// The module of a declaration, from the root.
    pub(super) fn path(&self, node: &Node) -> String {
        let mut path = self.crate_root(node);
        for module in self.names.modules(self.model, node) {
            path.push_str("::");
            path.push_str(&module);
        }
        path
    }

    /// Something in the module that a declaration stands in: its trait, its client.
    pub(super) fn beside(&self, node: &Node, name: &str) -> String {
        match node.parent.and_then(|parent| self.model.nodes.get(&parent)) {
            Some(parent) => format!("{}::{name}", self.path(parent)),
            None => name.to_owned(),
        }
    }

    fn crate_root(&self, node: &Node) -> String {
        match self.model.file_of(node).map(|file| &file.place) {
            Some(Place::Provided(module)) => format!("::{}", module.join("::")),
            _ => format!("crate::{ROOT}"),
        }
    }

    /// `<K, V>`: the type parameters of a generic struct, those of the scopes around it first.
    pub(super) fn parameters(&self, node: &Node) -> String {
        let mut scopes = vec![self.names.parameters(node.id)];
        let mut scope = node;
        while let Some(parent) = scope.parent.and_then(|parent| self.model.nodes.get(&parent)) {
            scopes.push(self.names.parameters(parent.id));
            scope = parent;
        }
        let names: Vec<&str> = scopes.into_iter().rev().flatten().map(String::as_str).collect();
        if names.is_empty() { String::new() } else { format!("<{}>", names.join(", ")) }
    }

    /// `….::Owned`, with type arguments.
    pub(super) fn owned(&self, reference: &StructRef) -> String {
        self.branded(reference, "Owned", None)
    }

    /// `….::Builder<'_>`, with type arguments.
    pub(super) fn builder(&self, reference: &StructRef) -> String {
        self.branded(reference, "Builder", Some("'_"))
    }

    fn branded(&self, reference: &StructRef, leaf: &str, lifetime: Option<&str>) -> String {
        let mut scopes = Vec::new();
        let mut scope = self.model.nodes.get(&reference.id);
        while let Some(node) = scope {
            scopes.push(self.arguments(node, reference));
            scope = node.parent.and_then(|parent| self.model.nodes.get(&parent));
        }
        let arguments = lifetime.map(str::to_owned).into_iter().chain(scopes.into_iter().rev().flatten());
        let arguments: Vec<String> = arguments.collect();
        let arguments =
            if arguments.is_empty() { String::new() } else { format!("<{}>", arguments.join(", ")) };
        format!("{}::{leaf}{arguments}", self.path(self.model.node(reference.id)))
    }

    /// The arguments for the parameters of one scope.
    fn arguments(&self, scope: &Node, reference: &StructRef) -> Vec<String> {
        let bound = reference.brand.iter().find_map(|(id, binding)| match binding {
            Binding::Bind(types) if *id == scope.id => Some(types),
            _ => None,
        });
        (0..scope.parameters.len())
            .map(|index| {
                let ty = bound.and_then(|types| types.get(index)).and_then(Option::as_ref);
                self.owned_type(ty.unwrap_or(&Type::AnyPointer))
            })
            .collect()
    }

    pub(super) fn owned_type(&self, ty: &Type) -> String {
        let capnp = format!("{CODEGEN}::capnp");
        match ty {
            Type::Primitive(primitive) => self.primitive(*primitive).to_owned(),
            Type::Text => format!("{capnp}::text::Owned"),
            Type::Data => format!("{capnp}::data::Owned"),
            Type::Enum(id) => {
                let node = self.model.node(*id);
                self.beside(node, self.names.item(node.id))
            }
            Type::Struct(reference) => self.owned(reference),
            Type::List(element) => match &**element {
                Type::Text => format!("{capnp}::text_list::Owned"),
                Type::Data => format!("{capnp}::data_list::Owned"),
                Type::Primitive(primitive) => {
                    format!("{capnp}::primitive_list::Owned<{}>", self.primitive(*primitive))
                }
                Type::Enum(_) => format!("{capnp}::enum_list::Owned<{}>", self.owned_type(element)),
                Type::List(_) => format!("{capnp}::list_list::Owned<{}>", self.owned_type(element)),
                _ => format!("{capnp}::struct_list::Owned<{}>", self.owned_type(element)),
            },
            // What `check` refuses does not get here.
            Type::AnyPointer
            | Type::Interface(_)
            | Type::Capability
            | Type::Parameter { .. }
            | Type::MethodParameter => {
                format!("{capnp}::any_pointer::Owned")
            }
        }
    }

    fn primitive(&self, primitive: Primitive) -> &'static str {
        match primitive {
            Primitive::Void => "()",
            Primitive::Bool => "bool",
            Primitive::Int8 => "i8",
            Primitive::Int16 => "i16",
            Primitive::Int32 => "i32",
            Primitive::Int64 => "i64",
            Primitive::UInt8 => "u8",
            Primitive::UInt16 => "u16",
            Primitive::UInt32 => "u32",
            Primitive::UInt64 => "u64",
            Primitive::Float32 => "f32",
            Primitive::Float64 => "f64",
        }
    }

    /// Whether a declaration is an interface; what an `extends` names is one, unless `check` refused it.
    pub(super) fn is_interface(&self, id: u64) -> bool {
        matches!(self.model.nodes.get(&id).map(|node| &node.kind), Some(Kind::Interface(_)))
    }
}
