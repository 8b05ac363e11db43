//! Fields and constants: no capabilities, and nothing of which capnpc prints code that does not compile.

use std::collections::BTreeSet;

use super::Checker;
use crate::model::{Binding, FieldKind, File, Model, Node, Place, Primitive, Struct, StructRef, Type};

impl Checker<'_> {
    pub(super) fn structure(&mut self, node: &Node, structure: &Struct) {
        let path = self.model.path(node);
        self.fields(node, structure, &path);
        let mut generic = BTreeSet::new();
        let mut scope = Some(node);
        while let Some(around) = scope {
            generic.extend((0..).zip(&around.parameters).map(|(index, _)| (around.id, index)));
            scope = around.parent.and_then(|parent| self.model.nodes.get(&parent));
        }
        if !generic.is_empty() {
            self.groups_of_unions(node, structure, &path, &generic);
        }
    }

    /// The fields of a struct and of its groups. `place` is what errors call the struct: of a method's parameters, the method.
    pub(super) fn fields(&mut self, node: &Node, structure: &Struct, place: &str) {
        for field in &structure.fields {
            let item = format!("{place}.{}", field.name);
            match &field.kind {
                FieldKind::Slot { ty, .. } => self.usable(node, &item, ty),
                FieldKind::Group(group) => {
                    if let (Some(declared), Some(structure)) =
                        (self.model.nodes.get(group), self.model.structure(*group))
                    {
                        self.fields(declared, structure, &item);
                    }
                }
            }
        }
    }

    pub(super) fn constant(&mut self, node: &Node, ty: &Type) {
        let path = self.model.path(node);
        self.usable(node, &path, ty);
        if mentions_parameter(ty) {
            let wrong = "the type of a constant may not depend on a type parameter";
            self.refuse(node, path, wrong, "give the type arguments");
        } else if *ty == Type::AnyPointer {
            self.refuse(node, path, "capnpc has no constants of type AnyPointer", "give the constant a type");
        }
    }

    /// That a value of this type can be part of a message.
    pub(super) fn usable(&mut self, node: &Node, item: &str, ty: &Type) {
        if let Type::Struct(StructRef { id, .. }) | Type::Enum(id) = ty
            && !self.model.nodes.get(id).and_then(|node| self.model.file_of(node)).is_some_and(has_code)
        {
            let wrong = "no code is generated for its type, which is declared in selfsame.capnp or in a file that was not compiled";
            self.refuse(node, item.to_owned(), wrong, "declare a type of your own");
            return;
        }
        match ty {
            Type::Interface(_) | Type::Capability => {
                let wrong =
                    "it is a capability, and a message of selfsame is data: it may be stored and sent again";
                let remedy = "pass a name or an id, and serve the interface by itself";
                self.refuse(node, item.to_owned(), wrong, remedy);
            }
            Type::List(element) => match **element {
                Type::AnyPointer | Type::Parameter { .. } | Type::MethodParameter => {
                    let wrong = "capnpc has no lists of AnyPointer or of a type parameter";
                    self.refuse(node, item.to_owned(), wrong, "wrap the element in a struct");
                }
                ref element => self.usable(node, item, element),
            },
            Type::Struct(reference) => {
                for ty in arguments(reference) {
                    self.usable(node, item, ty);
                }
            }
            Type::MethodParameter => {
                self.refuse(node, item.to_owned(), "its type is a parameter of the method", "name a type");
            }
            Type::Primitive(_)
            | Type::Text
            | Type::Data
            | Type::Enum(_)
            | Type::AnyPointer
            | Type::Parameter { .. } => {}
        }
    }

    /// capnpc declares the accessor types of a union with the type parameters that its members use, but a group is always given all of them.
    fn groups_of_unions(&mut self, node: &Node, structure: &Struct, place: &str, all: &BTreeSet<(u64, u16)>) {
        let mut used = BTreeSet::new();
        let mut in_union = None;
        for field in &structure.fields {
            if field.discriminant.is_some() {
                used_by_field(self.model, &field.kind, &mut used);
                if matches!(field.kind, FieldKind::Group(_)) {
                    in_union.get_or_insert(&field.name);
                }
            }
        }
        if let Some(group) = in_union
            && used != *all
        {
            let wrong = "in the union of a generic struct, capnpc can have a group only if the union's members use every type \
                         parameter between them";
            self.refuse(node, format!("{place}.{group}"), wrong, "make the group a struct of its own");
        }
        for field in &structure.fields {
            if let FieldKind::Group(group) = field.kind
                && let Some(structure) = self.model.structure(group)
            {
                self.groups_of_unions(node, structure, &format!("{place}.{}", field.name), all);
            }
        }
    }
}

fn has_code(file: &File) -> bool {
    file.place != Place::Builtin
}

fn arguments(reference: &StructRef) -> impl Iterator<Item = &Type> {
    reference
        .brand
        .iter()
        .flat_map(|(_, binding)| match binding {
            Binding::Bind(types) => types.as_slice(),
            Binding::Inherit => &[],
        })
        .flatten()
}

fn mentions_parameter(ty: &Type) -> bool {
    match ty {
        Type::Parameter { .. } | Type::MethodParameter => true,
        Type::List(element) => mentions_parameter(element),
        Type::Struct(reference) => {
            reference.brand.iter().any(|(_, binding)| *binding == Binding::Inherit)
                || arguments(reference).any(mentions_parameter)
        }
        _ => false,
    }
}

fn used_by_field(model: &Model, kind: &FieldKind, used: &mut BTreeSet<(u64, u16)>) {
    match kind {
        FieldKind::Slot { ty, .. } => used_by_type(model, ty, used),
        FieldKind::Group(group) => {
            for field in model.structure(*group).map_or(&[][..], |structure| &structure.fields) {
                used_by_field(model, &field.kind, used);
            }
        }
    }
}

fn used_by_type(model: &Model, ty: &Type, used: &mut BTreeSet<(u64, u16)>) {
    match ty {
        Type::Parameter { scope, index } => {
            used.insert((*scope, *index));
        }
        Type::List(element) => used_by_type(model, element, used),
        Type::Struct(reference) => {
            for (scope, binding) in &reference.brand {
                match binding {
                    Binding::Inherit => {
                        let parameters = model.nodes.get(scope).map_or(0, |node| node.parameters.len());
                        used.extend((0..).zip(0..parameters).map(|(index, _)| (*scope, index)));
                    }
                    Binding::Bind(types) => {
                        for ty in types.iter().flatten() {
                            used_by_type(model, ty, used);
                        }
                    }
                }
            }
        }
        _ => {}
    }
}

/// Whether subscribers can filter by a field of this type.
pub(super) fn is_key(ty: &Type) -> bool {
    use Primitive::*;
    match ty {
        Type::Text | Type::Enum(_) => true,
        Type::Primitive(primitive) => !matches!(primitive, Void | Float32 | Float64),
        _ => false,
    }
}
