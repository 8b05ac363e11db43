//! What a contract says, as plain values: files, their declarations, types, and what the annotations of `selfsame.capnp` add.
//!
//! Not the schema compiler's request, which `read` turns into this, and not yet Rust: which names the generated items bear is
//! decided in `names`. Nothing here is checked; `check` refuses what cannot work before anything is printed.

pub(crate) mod read;

use std::collections::BTreeMap;

/// All that one run compiles, with what it imports.
pub(crate) struct Model {
    pub files: Vec<File>,
    /// Every declaration by its type id, files included.
    pub nodes: BTreeMap<u64, Node>,
}

/// A schema file.
pub(crate) struct File {
    pub id: u64,
    /// As errors name it.
    pub shown: String,
    /// Its module below the root of its crate's generated code: folders, then the file.
    pub module: Vec<String>,
    pub place: Place,
}

/// Where the generated code of a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the output of this run.
    Here,
    /// In another crate: the path of the module that holds its generated code (`contracts`, `api`).
    Provided(Vec<String>),
    /// Nowhere: annotations only.
    Builtin,
}

/// A declaration.
pub(crate) struct Node {
    pub id: u64,
    /// The declaration that encloses it; `None` for files and whatever belongs to none.
    pub parent: Option<u64>,
    pub file: u64,
    /// Its own name; `Outer.Inner` is `path`.
    pub name: String,
    pub docs: String,
    /// The names of its own type parameters.
    pub parameters: Vec<String>,
    /// It, or a declaration around it, has type parameters.
    pub generic: bool,
    pub nested: Vec<u64>,
    pub kind: Kind,
}

pub(crate) enum Kind {
    File,
    Struct(Struct),
    Enum(Enum),
    Interface(Interface),
    Const(Type),
    /// Generates nothing.
    Annotation,
}

pub(crate) struct Struct {
    pub fields: Vec<Field>,
    /// Where the union's discriminant is, if there is a union.
    pub discriminant_offset: Option<u32>,
    pub is_group: bool,
    /// Declared in passing, as the parameters or the results of a method.
    pub is_implicit: bool,
    pub topics: Vec<String>,
}

pub(crate) struct Field {
    pub name: String,
    /// `None` for a group.
    pub ordinal: Option<u16>,
    /// `None` outside a union.
    pub discriminant: Option<u16>,
    pub kind: FieldKind,
    /// Annotated as the key of its event.
    pub key: bool,
}

pub(crate) enum FieldKind {
    Slot {
        offset: u32,
        ty: Type,
        /// The default in Cap'n Proto's canonical form, if the schema gives one.
        default: Option<Vec<u8>>,
    },
    Group(u64),
}

pub(crate) struct Enum {
    pub enumerants: Vec<String>,
}

pub(crate) struct Interface {
    pub extends: Vec<u64>,
    pub methods: Vec<Method>,
    pub says: Says,
}

pub(crate) struct Method {
    pub name: String,
    pub docs: String,
    pub ordinal: u16,
    pub params: StructRef,
    pub results: StructRef,
    /// Its own class, or its interface's, or the default.
    pub retry: Retry,
    /// Its own `Raises`, or its interface's.
    pub raises: Option<Raises>,
    pub says: Says,
    /// `[T](…)`: type parameters of the method itself.
    pub generic: bool,
}

/// The annotations of a method or an interface. The schema compiler takes any number of each; `check` refuses more than one.
#[derive(Default)]
pub(crate) struct Says {
    pub retry: Vec<Retry>,
    pub raises: Vec<Raises>,
}

/// The type argument of a `$Selfsame.Raises(…).it`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Raises {
    Type(Type),
    /// `$Selfsame.Raises.it`, without a type.
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retry {
    Once,
    Idempotent,
    ReadOnly,
    Never,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Primitive(Primitive),
    Text,
    Data,
    List(Box<Type>),
    Enum(u64),
    Struct(StructRef),
    Interface(u64),
    /// `AnyPointer`, `AnyStruct` and `AnyList`.
    AnyPointer,
    /// `Capability`.
    Capability,
    Parameter {
        scope: u64,
        index: u16,
    },
    /// A type parameter of a method.
    MethodParameter,
}

/// Declared in the order of the tags that fingerprints hash: append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Primitive {
    Void,
    Bool,
    Int8,
    Int16,
    Int32,
    Int64,
    UInt8,
    UInt16,
    UInt32,
    UInt64,
    Float32,
    Float64,
}

/// A use of a struct, with the type arguments given to it and to what encloses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StructRef {
    pub id: u64,
    pub brand: Vec<(u64, Binding)>,
}

/// The type arguments for the parameters of one scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Binding {
    /// The same as where it is used.
    Inherit,
    /// `None`: left open, which makes it `AnyPointer`.
    Bind(Vec<Option<Type>>),
}

impl Model {
    /// The declaration with this id. Every id that a request mentions is declared in it, since all imports are compiled too.
    pub fn node(&self, id: u64) -> &Node {
        &self.nodes[&id]
    }

    pub fn file(&self, id: u64) -> Option<&File> {
        self.files.iter().find(|file| file.id == id)
    }

    /// The file in which a declaration stands.
    pub fn file_of(&self, node: &Node) -> Option<&File> {
        self.file(node.file)
    }

    /// Whether this run prints the code of a declaration.
    pub fn is_here(&self, node: &Node) -> bool {
        self.file_of(node).is_some_and(|file| file.place == Place::Here)
    }

    /// The declarations whose code this run prints, by id.
    pub fn here(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values().filter(|node| self.is_here(node))
    }

    pub fn interface(&self, id: u64) -> Option<&Interface> {
        match &self.nodes.get(&id)?.kind {
            Kind::Interface(interface) => Some(interface),
            _ => None,
        }
    }

    pub fn structure(&self, id: u64) -> Option<&Struct> {
        match &self.nodes.get(&id)?.kind {
            Kind::Struct(structure) => Some(structure),
            _ => None,
        }
    }

    /// `Outer.Inner`, as the contract spells it.
    pub fn path(&self, node: &Node) -> String {
        match node.parent.and_then(|parent| self.nodes.get(&parent)) {
            Some(parent) if !matches!(parent.kind, Kind::File) => {
                format!("{}.{}", self.path(parent), node.name)
            }
            _ => node.name.clone(),
        }
    }

    /// The interfaces that an interface extends, directly or not, each once, in the order of their first mention.
    pub fn bases(&self, id: u64) -> Vec<u64> {
        let mut bases = Vec::new();
        self.collect_bases(id, &mut bases);
        bases.retain(|base| *base != id);
        bases
    }

    fn collect_bases(&self, id: u64, found: &mut Vec<u64>) {
        for &base in self.interface(id).map_or(&[][..], |interface| &interface.extends) {
            if !found.contains(&base) {
                found.push(base);
                self.collect_bases(base, found);
            }
        }
    }
}
