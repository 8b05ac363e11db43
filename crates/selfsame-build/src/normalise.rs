//! A copy of the compiler's request that capnpc can print: messages only, under names that compile, at paths that can be moved.
//!
//! - Every interface becomes a file of its own, which holds the messages that its methods declare in passing and whatever is nested in it.
//!   So capnpc prints the inside of the interface's module, and no RPC code.
//! - Files are told where their modules are below a root, `ROOT`, whose path `print` replaces by the way that leads there.
//! - All annotations go; those that rename things for capnpc come.
//! - A struct gets a constant, whose declaration in capnpc's output marks the place for what selfsame adds to the struct's module.
//! - The original stays as it is: the model, and all fingerprints, are read from that.

use capnp::message::{self, HeapAllocator};
use capnp::schema_capnp::{annotation, brand, code_generator_request, field, node, type_, value};
use capnp::struct_list;

use crate::model::{Kind, Model, Node, Place, Struct};
use crate::names::{Names, capnpc_module, snake};

/// The module that stands for the root of the generated code until paths are replaced.
pub(crate) const ROOT: &str = "__selfsame";

/// capnpc's own annotations (`rust.capnp`).
const NAME: u64 = 0xc2fe_4c6d_1001_66d0;
const PARENT_MODULE: u64 = 0xabee_386c_d145_0364;

/// The normalised request.
pub(crate) struct Normalised {
    pub message: message::Builder<HeapAllocator>,
    /// The declarations that have an output file of their own: files, and interfaces.
    pub units: Vec<u64>,
    /// Files and interfaces whose code another crate provides, with the name of that crate.
    pub provided: Vec<(u64, String)>,
}

/// The stem of the file that capnpc writes for a unit, `_capnp.rs` not included.
pub(crate) fn stem(unit: u64) -> String {
    format!("u{unit:016x}")
}

/// The constant that marks the place in the module of a struct, as capnpc prints it.
pub(crate) fn mark(structure: u64) -> String {
    format!("pub const {}: () = ();", snake(&mark_name(structure)).to_ascii_uppercase())
}

fn mark_name(structure: u64) -> String {
    format!("selfsameHere{structure:016x}")
}

/// Whether selfsame adds something to the module of this struct.
pub(crate) fn is_marked(model: &Model, node: &Node) -> bool {
    matches!(node.kind, Kind::Struct(_))
        && node
            .nested
            .iter()
            .filter_map(|id| model.nodes.get(id))
            .any(|nested| matches!(nested.kind, Kind::Struct(_) | Kind::Interface(_)))
}

pub(crate) fn normalise(
    request: code_generator_request::Reader<'_>,
    model: &Model,
    names: &Names,
) -> capnp::Result<Normalised> {
    let mut message = message::Builder::new_default();
    let (units, provided) = units(model);
    Normaliser { model, names }.request(request, message.init_root(), &units, &provided)?;
    Ok(Normalised { message, units, provided })
}

/// The files and interfaces that are printed, and those that another crate provides.
fn units(model: &Model) -> (Vec<u64>, Vec<(u64, String)>) {
    let (mut units, mut provided) = (Vec::new(), Vec::new());
    for node in model.nodes.values().filter(|node| matches!(node.kind, Kind::File | Kind::Interface(_))) {
        match model.file_of(node).map(|file| &file.place) {
            Some(Place::Here) => units.push(node.id),
            Some(Place::Provided(module)) => {
                provided.push((node.id, module.first().cloned().unwrap_or_default()))
            }
            Some(Place::Builtin) | None => {}
        }
    }
    (units, provided)
}

struct Normaliser<'a> {
    model: &'a Model,
    names: &'a Names,
}

impl Normaliser<'_> {
    fn request(
        &self,
        from: code_generator_request::Reader<'_>,
        mut to: code_generator_request::Builder<'_>,
        units: &[u64],
        provided: &[(u64, String)],
    ) -> capnp::Result<()> {
        let marked: Vec<&Node> = self.model.here().filter(|node| is_marked(self.model, node)).collect();
        let originals = from.get_nodes()?;
        let count = originals.len() + length(marked.len()) + 2;
        let mut nodes = to.reborrow().init_nodes(count);
        for (index, original) in (0..).zip(originals) {
            nodes.set_with_caveats(index, original)?;
            self.node(original.get_id(), nodes.reborrow().get(index))?;
        }
        for (index, structure) in (originals.len()..).zip(&marked) {
            constant(structure.id, nodes.reborrow().get(index));
        }
        for (index, id) in (count - 2..).zip([NAME, PARENT_MODULE]) {
            text_annotation(id, nodes.reborrow().get(index));
        }

        let mut files = to.init_requested_files(length(units.len()));
        for (index, unit) in (0..).zip(units) {
            let mut file = files.reborrow().get(index);
            file.set_id(*unit);
            file.set_filename(format!("{}.capnp", stem(*unit)));
            let mut imports = file.init_imports(length(provided.len()));
            for (index, (id, _)) in (0..).zip(provided) {
                let mut import = imports.reborrow().get(index);
                import.set_id(*id);
                import.set_name(format!("{}.capnp", stem(*id)));
            }
        }
        Ok(())
    }

    fn node(&self, id: u64, mut to: node::Builder<'_>) -> capnp::Result<()> {
        let node = self.model.node(id);
        to.set_scope_id(node.parent.unwrap_or(0));
        let mut parameters = to.reborrow().get_parameters()?;
        for (index, name) in (0..parameters.len()).zip(self.names.parameters(id)) {
            parameters.reborrow().get(index).set_name(name);
        }
        self.nested(node, to.reborrow());
        match &node.kind {
            Kind::File | Kind::Interface(_) => {
                to.set_file(());
                to.set_scope_id(0);
                self.locate(node, to.reborrow());
            }
            Kind::Struct(structure) => {
                self.rename(node, structure, to.reborrow());
                let node::Struct(reader) = to.which()? else { return Ok(()) };
                let mut fields = reader.get_fields()?;
                for (index, field) in structure.fields.iter().enumerate() {
                    let mut to = fields.reborrow().get(length(index));
                    annotate(
                        to.reborrow().init_annotations(self.names.member(id, index).is_some().into()),
                        &[(NAME, self.names.member(id, index).unwrap_or(&field.name))],
                    );
                    self.field(to)?;
                }
            }
            Kind::Enum(declared) => {
                // capnpc takes an enum in a generic struct for generic, and prints what does not compile.
                to.set_is_generic(false);
                let name = self.names.item(id);
                let renamed = name != node.name;
                annotate(to.reborrow().init_annotations(renamed.into()), &[(NAME, name)]);
                let node::Enum(reader) = to.which()? else { return Ok(()) };
                let mut enumerants = reader.get_enumerants()?;
                for (index, _) in declared.enumerants.iter().enumerate() {
                    let to = enumerants.reborrow().get(length(index));
                    let name = self.names.member(id, index);
                    annotate(to.init_annotations(name.is_some().into()), &[(NAME, name.unwrap_or_default())]);
                }
            }
            Kind::Const(_) => {
                let name = self.names.item(id);
                let renamed = name != capnpc_module(&node.name).to_ascii_uppercase();
                annotate(to.init_annotations(renamed.into()), &[(NAME, &name.to_ascii_lowercase())]);
            }
            Kind::Annotation => {
                to.init_annotations(0);
            }
        }
        Ok(())
    }

    /// Gives a struct's or a group's module the name that it is to have.
    fn rename(&self, node: &Node, structure: &Struct, to: node::Builder<'_>) {
        let module = self.names.module(node.id);
        let renamed = !structure.is_implicit && !module.is_empty() && module != capnpc_module(&node.name);
        annotate(to.init_annotations(renamed.into()), &[(NAME, module)]);
    }

    /// Lists what capnpc is to print within a declaration: no interfaces, no annotations; but a method's own structs.
    fn nested(&self, node: &Node, to: node::Builder<'_>) {
        let mut nested: Vec<(String, u64)> = Vec::new();
        for id in &node.nested {
            match self.model.nodes.get(id) {
                Some(child) if !matches!(child.kind, Kind::Interface(_) | Kind::Annotation) => {
                    nested.push((child.name.clone(), *id));
                }
                _ => {}
            }
        }
        if let Kind::Interface(interface) = &node.kind {
            for method in &interface.methods {
                for id in [method.params.id, method.results.id] {
                    if self.model.structure(id).is_some_and(|structure| structure.is_implicit) {
                        nested.push((self.names.module(id).to_owned(), id));
                    }
                }
            }
        }
        if self.model.is_here(node) && is_marked(self.model, node) {
            nested.push((mark_name(node.id), mark_id(node.id)));
        }
        let mut list = to.init_nested_nodes(length(nested.len()));
        for (index, (name, id)) in (0..).zip(nested) {
            let mut entry = list.reborrow().get(index);
            entry.set_name(name);
            entry.set_id(id);
        }
    }

    /// Tells capnpc the module of a file or of an interface.
    fn locate(&self, node: &Node, to: node::Builder<'_>) {
        let mut path = match self.model.file_of(node).map(|file| &file.place) {
            Some(Place::Provided(module)) => module.iter().skip(1).cloned().collect(),
            _ => vec![ROOT.to_owned()],
        };
        path.extend(self.names.modules(self.model, node));
        let name = path.pop().unwrap_or_default();
        let parent = path.join("::");
        let mut annotations = vec![(NAME, name.as_str())];
        if !parent.is_empty() {
            annotations.push((PARENT_MODULE, parent.as_str()));
        }
        annotate(to.init_annotations(length(annotations.len())), &annotations);
    }

    fn field(&self, to: field::Builder<'_>) -> capnp::Result<()> {
        if let field::Slot(slot) = to.which()? {
            unbrand_enums(slot.get_type()?)?;
        }
        Ok(())
    }
}

/// Takes the type arguments from enums: they mean nothing, and capnpc would take them for used.
fn unbrand_enums(ty: type_::Builder<'_>) -> capnp::Result<()> {
    match ty.which()? {
        type_::Enum(reference) => {
            reference.init_brand();
        }
        type_::List(list) => unbrand_enums(list.get_element_type()?)?,
        type_::Struct(reference) => {
            let mut scopes = reference.get_brand()?.get_scopes()?;
            for index in 0..scopes.len() {
                let brand::scope::Bind(bindings) = scopes.reborrow().get(index).which()? else { continue };
                let mut bindings = bindings?;
                for index in 0..bindings.len() {
                    if let brand::binding::Type(ty) = bindings.reborrow().get(index).which()? {
                        unbrand_enums(ty?)?;
                    }
                }
            }
        }
        _ => {}
    }
    Ok(())
}

fn annotate(mut list: struct_list::Builder<'_, annotation::Owned>, texts: &[(u64, &str)]) {
    for (index, (id, text)) in (0..list.len()).zip(texts) {
        let mut annotation = list.reborrow().get(index);
        annotation.set_id(*id);
        annotation.init_value().set_text(*text);
    }
}

fn constant(structure: u64, mut to: node::Builder<'_>) {
    to.set_id(mark_id(structure));
    to.set_scope_id(structure);
    let mut constant = to.init_const();
    constant.reborrow().init_type().set_void(());
    let mut value: value::Builder<'_> = constant.init_value();
    value.set_void(());
}

fn text_annotation(id: u64, mut to: node::Builder<'_>) {
    to.set_id(id);
    to.init_annotation().init_type().set_text(());
}

/// Of the constant that marks a struct. Ids that the compiler gives out have the highest bit set; this one has not.
fn mark_id(structure: u64) -> u64 {
    structure & !(1 << 63)
}

/// Cap'n Proto counts in 32 bits, and a request with more nodes could not have been read.
fn length(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
