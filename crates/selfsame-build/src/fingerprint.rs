//! Fingerprint and shape of an interface: how two sides find out that their contracts differ, and whether that matters.
//!
//! The hash is FNV-1a: stable, a few lines, and no protection against somebody who looks for collisions. Contracts come from those who
//! build both sides; a forged fingerprint gains a peer nothing that a wrong message would not.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Binding, FieldKind, Interface, Kind, Method, Model, Raises, Struct, Type};

/// What client and server compare.
pub(crate) struct Fingerprint {
    /// Of everything that the interface says, names included.
    pub whole: u64,
    /// `(member, form)`, sorted by member: two versions agree if each member that both have is of one form.
    ///
    /// A member is a method or a field, known by its ordinal. A form says what the bytes mean: types, places, defaults, the retry class.
    /// Names are left out, as Cap'n Proto leaves them out of its messages.
    pub shape: Vec<(u64, u64)>,
}

/// Of the interface's own methods and all structs that they reach; interfaces that it extends have fingerprints of their own.
pub(crate) fn of(model: &Model, interface: u64) -> Fingerprint {
    let mut walk = Walk { model, members: BTreeMap::new(), seen: BTreeSet::new(), names: Fnv::new() };
    if let Some(declared) = model.interface(interface) {
        walk.names.text(&model.path(model.node(interface)));
        walk.interface(interface, declared);
    }
    let mut whole = walk.names;
    for (member, form) in &walk.members {
        whole.number(*member);
        whole.number(*form);
    }
    Fingerprint { whole: whole.finish(), shape: walk.members.into_iter().collect() }
}

struct Walk<'a> {
    model: &'a Model,
    members: BTreeMap<u64, u64>,
    seen: BTreeSet<u64>,
    /// What is part of the fingerprint but of no form.
    names: Fnv,
}

/// Where in unions a field stands: the discriminants that select it.
type Selected = Vec<(u32, u16)>;

impl Walk<'_> {
    fn interface(&mut self, id: u64, interface: &Interface) {
        for base in &interface.extends {
            self.names.number(*base);
        }
        for method in &interface.methods {
            self.names.text(&method.name);
            self.members.insert(member(id, b'm', method.ordinal), method_form(method));
            self.reach(&Type::Struct(method.params.clone()));
            self.reach(&Type::Struct(method.results.clone()));
            if let Some(Raises::Type(fault)) = &method.raises {
                hash_type(&mut self.names, fault);
                self.reach(fault);
            }
        }
    }

    fn reach(&mut self, ty: &Type) {
        match ty {
            Type::List(element) => self.reach(element),
            Type::Enum(id) => {
                if self.seen.insert(*id)
                    && let Kind::Enum(declared) = &self.model.node(*id).kind
                {
                    declared.enumerants.iter().for_each(|name| self.names.text(name));
                }
            }
            Type::Struct(reference) => {
                for (_, binding) in &reference.brand {
                    if let Binding::Bind(types) = binding {
                        types.iter().flatten().for_each(|ty| self.reach(ty));
                    }
                }
                if self.seen.insert(reference.id)
                    && let Some(structure) = self.model.structure(reference.id)
                {
                    self.fields(reference.id, structure, &Selected::new());
                }
            }
            _ => {}
        }
    }

    /// The fields of a struct, those of its groups included: a group is a way of writing, its fields are the struct's.
    fn fields(&mut self, owner: u64, structure: &Struct, selected: &Selected) {
        for field in &structure.fields {
            self.names.text(&field.name);
            let mut selected = selected.clone();
            // The first member of a union is where a field outside it was that has been moved into it since.
            if let (Some(offset), Some(discriminant @ 1..)) =
                (structure.discriminant_offset, field.discriminant)
            {
                selected.push((offset, discriminant));
            }
            match &field.kind {
                FieldKind::Group(group) => {
                    if let Some(structure) = self.model.structure(*group) {
                        self.fields(owner, structure, &selected);
                    }
                }
                FieldKind::Slot { offset, ty, default } => {
                    let mut form = Fnv::new();
                    hash_type(&mut form, ty);
                    form.number((*offset).into());
                    form.bytes(default.as_deref().unwrap_or_default());
                    for (offset, discriminant) in &selected {
                        form.number((*offset).into());
                        form.number((*discriminant).into());
                    }
                    let ordinal = field.ordinal.unwrap_or(u16::MAX);
                    self.members.insert(member(owner, b'f', ordinal), form.finish());
                    self.reach(ty);
                }
            }
        }
    }
}

fn member(owner: u64, kind: u8, ordinal: u16) -> u64 {
    let mut hash = Fnv::new();
    hash.number(owner);
    hash.number(kind.into());
    hash.number(ordinal.into());
    hash.finish()
}

fn method_form(method: &Method) -> u64 {
    let mut form = Fnv::new();
    hash_type(&mut form, &Type::Struct(method.params.clone()));
    hash_type(&mut form, &Type::Struct(method.results.clone()));
    form.number(method.retry as u64);
    // Not the fault: its type id travels with it, and a caller that does not know it still learns that it was declined.
    form.finish()
}

fn hash_type(hash: &mut Fnv, ty: &Type) {
    match ty {
        Type::Primitive(primitive) => hash.number(*primitive as u64),
        Type::Text => hash.number(20),
        Type::Data => hash.number(21),
        Type::List(element) => {
            hash.number(22);
            hash_type(hash, element);
        }
        Type::Enum(id) => {
            hash.number(23);
            hash.number(*id);
        }
        Type::Struct(reference) => {
            hash.number(24);
            hash.number(reference.id);
            for (scope, binding) in &reference.brand {
                hash.number(*scope);
                match binding {
                    Binding::Inherit => hash.number(25),
                    Binding::Bind(types) => {
                        hash.number(types.len() as u64);
                        for ty in types {
                            hash_type(hash, ty.as_ref().unwrap_or(&Type::AnyPointer));
                        }
                    }
                }
            }
        }
        Type::Interface(id) => {
            hash.number(26);
            hash.number(*id);
        }
        Type::AnyPointer => hash.number(27),
        Type::Capability => hash.number(28),
        Type::Parameter { scope, index } => {
            hash.number(29);
            hash.number(*scope);
            hash.number((*index).into());
        }
        Type::MethodParameter => hash.number(30),
    }
}

/// FNV-1a, 64 bits.
struct Fnv(u64);

impl Fnv {
    fn new() -> Self {
        Fnv(0xcbf2_9ce4_8422_2325)
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn number(&mut self, number: u64) {
        self.bytes(&number.to_le_bytes());
    }

    /// The length first, so that two texts cannot run into each other.
    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.bytes(text.as_bytes());
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests;
