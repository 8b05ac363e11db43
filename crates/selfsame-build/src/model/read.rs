//! From the schema compiler's request to the model.

use std::collections::{BTreeMap, HashMap};

use capnp::message;
use capnp::schema_capnp::{annotation, brand, code_generator_request, field, method, node, type_, value};

use super::*;
use crate::request::Compiled;

/// The ids of `selfsame.capnp`.
pub(crate) mod id {
    pub const FILE: u64 = 0xab04_c578_ff8d_8e94;
    pub const RETRY: u64 = 0xecfc_5bff_b39d_db6d;
    pub const RAISES: u64 = 0xb4db_5523_bf1a_a91e;
    pub const RAISES_IT: u64 = 0xe41c_0e15_0013_bfb8;
    pub const TOPIC: u64 = 0xf264_c0ee_7f95_e0df;
    pub const KEY: u64 = 0x8a7f_2bb2_13e1_2cc4;
}

/// The struct by which Cap'n Proto says `-> stream`.
pub(crate) const STREAM_RESULT: u64 = 0x995f_9a33_77c0_b16e;

/// Reads the whole request.
pub(crate) fn read(compiled: &Compiled) -> capnp::Result<Model> {
    let request: code_generator_request::Reader<'_> = compiled.request()?;
    let docs = docs(request)?;
    let mut files = Vec::new();
    for (file, source) in request.get_requested_files()?.iter().zip(&compiled.sources) {
        let place = if file.get_id() == id::FILE { Place::Builtin } else { source.place.clone() };
        files.push(File {
            id: file.get_id(),
            shown: source.shown.clone(),
            module: source.module.clone(),
            place,
        });
    }
    let parents = parents(request)?;
    let mut nodes = BTreeMap::new();
    for node in request.get_nodes()? {
        nodes.insert(node.get_id(), read_node(node, &parents, &docs)?);
    }
    Ok(Model { files, nodes })
}

/// Doc comments: of a declaration (`None`) and of its members (`Some(index)`).
type Docs = HashMap<(u64, Option<u32>), String>;

fn docs(request: code_generator_request::Reader<'_>) -> capnp::Result<Docs> {
    let mut docs = Docs::new();
    for info in request.get_source_info()? {
        docs.insert((info.get_id(), None), info.get_doc_comment()?.to_string()?);
        for (index, member) in (0..).zip(info.get_members()?) {
            docs.insert((info.get_id(), Some(index)), member.get_doc_comment()?.to_string()?);
        }
    }
    Ok(docs)
}

/// The scope of every declaration. Structs that a method declares in passing have scope 0 in the request; here they belong to the interface.
fn parents(request: code_generator_request::Reader<'_>) -> capnp::Result<HashMap<u64, u64>> {
    let mut parents = HashMap::new();
    for node in request.get_nodes()? {
        parents.insert(node.get_id(), node.get_scope_id());
    }
    for node in request.get_nodes()? {
        if let node::Interface(interface) = node.which()? {
            for method in interface.get_methods()? {
                for id in [method.get_param_struct_type(), method.get_result_struct_type()] {
                    if parents.get(&id) == Some(&0) {
                        parents.insert(id, node.get_id());
                    }
                }
            }
        }
    }
    Ok(parents)
}

fn read_node(node: node::Reader<'_>, parents: &HashMap<u64, u64>, docs: &Docs) -> capnp::Result<Node> {
    let id = node.get_id();
    let display = node.get_display_name()?.to_str()?;
    let name = display.get(node.get_display_name_prefix_length() as usize..).unwrap_or(display);
    let mut parameters = Vec::new();
    for parameter in node.get_parameters()? {
        parameters.push(parameter.get_name()?.to_string()?);
    }
    let kind = match node.which()? {
        node::File(()) => Kind::File,
        node::Struct(structure) => Kind::Struct(read_struct(node, structure)?),
        node::Enum(reader) => {
            let mut enumerants = Vec::new();
            for enumerant in reader.get_enumerants()? {
                enumerants.push(enumerant.get_name()?.to_string()?);
            }
            Kind::Enum(Enum { enumerants })
        }
        node::Interface(interface) => Kind::Interface(read_interface(node, interface, docs)?),
        node::Const(constant) => Kind::Const(read_type(constant.get_type()?)?),
        node::Annotation(_) => Kind::Annotation,
    };
    // A member of a cycle cannot happen in a request; the bound keeps a broken one from hanging the build.
    let file =
        std::iter::successors(Some(id), |scope| parents.get(scope).copied().filter(|&parent| parent != 0))
            .take(parents.len() + 1)
            .last()
            .unwrap_or(id);
    let nested = node.get_nested_nodes()?.iter().map(|nested| nested.get_id()).collect();
    Ok(Node {
        id,
        parent: parents.get(&id).copied().filter(|&parent| parent != 0),
        file,
        name: name.to_owned(),
        docs: docs.get(&(id, None)).cloned().unwrap_or_default(),
        parameters,
        generic: node.get_is_generic(),
        nested,
        kind,
    })
}

fn read_struct(node: node::Reader<'_>, structure: node::struct_::Reader<'_>) -> capnp::Result<Struct> {
    let mut fields = Vec::new();
    for field in structure.get_fields()? {
        fields.push(read_field(field)?);
    }
    let mut topics = Vec::new();
    for annotation in node.get_annotations()? {
        if annotation.get_id() == id::TOPIC
            && let value::Text(topic) = annotation.get_value()?.which()?
        {
            topics.push(topic?.to_string()?);
        }
    }
    let discriminant_offset =
        (structure.get_discriminant_count() > 0).then(|| structure.get_discriminant_offset());
    Ok(Struct {
        fields,
        discriminant_offset,
        is_group: structure.get_is_group(),
        is_implicit: node.get_scope_id() == 0,
        topics,
    })
}

fn read_field(field: field::Reader<'_>) -> capnp::Result<Field> {
    let discriminant = field.get_discriminant_value();
    let ordinal = match field.get_ordinal().which()? {
        field::ordinal::Explicit(ordinal) => Some(ordinal),
        field::ordinal::Implicit(()) => None,
    };
    let kind = match field.which()? {
        field::Slot(slot) => FieldKind::Slot {
            offset: slot.get_offset(),
            ty: read_type(slot.get_type()?)?,
            default: slot
                .get_had_explicit_default()
                .then(|| canonical(slot.get_default_value()?))
                .transpose()?,
        },
        field::Group(group) => FieldKind::Group(group.get_type_id()),
    };
    Ok(Field {
        name: field.get_name()?.to_string()?,
        ordinal,
        discriminant: (discriminant != field::NO_DISCRIMINANT).then_some(discriminant),
        kind,
        key: field.get_annotations()?.iter().any(|annotation| annotation.get_id() == id::KEY),
    })
}

fn canonical(value: value::Reader<'_>) -> capnp::Result<Vec<u8>> {
    let mut builder = message::Builder::new_default();
    builder.set_root_canonical(value)?;
    Ok(builder.get_segments_for_output().concat())
}

fn read_interface(
    node: node::Reader<'_>,
    interface: node::interface::Reader<'_>,
    docs: &Docs,
) -> capnp::Result<Interface> {
    let says = says(node.get_annotations()?)?;
    let mut methods = Vec::new();
    for (ordinal, method) in (0u16..).zip(interface.get_methods()?) {
        let docs = docs.get(&(node.get_id(), Some(ordinal.into()))).cloned().unwrap_or_default();
        methods.push(read_method(method, ordinal, docs, &says)?);
    }
    let extends = interface.get_superclasses()?.iter().map(|base| base.get_id()).collect();
    Ok(Interface { extends, methods, says })
}

fn read_method(
    method: method::Reader<'_>,
    ordinal: u16,
    docs: String,
    defaults: &Says,
) -> capnp::Result<Method> {
    let says = says(method.get_annotations()?)?;
    Ok(Method {
        name: method.get_name()?.to_string()?,
        docs,
        ordinal,
        params: StructRef {
            id: method.get_param_struct_type(),
            brand: read_brand(method.get_param_brand()?)?,
        },
        results: StructRef {
            id: method.get_result_struct_type(),
            brand: read_brand(method.get_result_brand()?)?,
        },
        retry: says.retry.first().or(defaults.retry.first()).copied().unwrap_or(Retry::Once),
        raises: says.raises.first().or(defaults.raises.first()).cloned(),
        says,
        generic: !method.get_implicit_parameters()?.is_empty(),
    })
}

/// What the annotations of a method or an interface say.
fn says(list: capnp::struct_list::Reader<'_, annotation::Owned>) -> capnp::Result<Says> {
    let mut says = Says::default();
    for annotation in list {
        match annotation.get_id() {
            id::RETRY => says.retry.push(match annotation.get_value()?.which()? {
                value::Enum(1) => Retry::Idempotent,
                value::Enum(2) => Retry::ReadOnly,
                value::Enum(3) => Retry::Never,
                _ => Retry::Once,
            }),
            id::RAISES_IT => {
                let bound =
                    read_brand(annotation.get_brand()?)?.into_iter().find_map(
                        |(scope, binding)| match binding {
                            Binding::Bind(types) if scope == id::RAISES => types.into_iter().next().flatten(),
                            _ => None,
                        },
                    );
                says.raises.push(bound.map_or(Raises::Nothing, Raises::Type));
            }
            _ => {}
        }
    }
    Ok(says)
}

fn read_type(ty: type_::Reader<'_>) -> capnp::Result<Type> {
    use type_::any_pointer::{self, unconstrained};
    Ok(match ty.which()? {
        type_::Void(()) => Type::Primitive(Primitive::Void),
        type_::Bool(()) => Type::Primitive(Primitive::Bool),
        type_::Int8(()) => Type::Primitive(Primitive::Int8),
        type_::Int16(()) => Type::Primitive(Primitive::Int16),
        type_::Int32(()) => Type::Primitive(Primitive::Int32),
        type_::Int64(()) => Type::Primitive(Primitive::Int64),
        type_::Uint8(()) => Type::Primitive(Primitive::UInt8),
        type_::Uint16(()) => Type::Primitive(Primitive::UInt16),
        type_::Uint32(()) => Type::Primitive(Primitive::UInt32),
        type_::Uint64(()) => Type::Primitive(Primitive::UInt64),
        type_::Float32(()) => Type::Primitive(Primitive::Float32),
        type_::Float64(()) => Type::Primitive(Primitive::Float64),
        type_::Text(()) => Type::Text,
        type_::Data(()) => Type::Data,
        type_::List(list) => Type::List(Box::new(read_type(list.get_element_type()?)?)),
        type_::Enum(reader) => Type::Enum(reader.get_type_id()),
        type_::Struct(reader) => {
            Type::Struct(StructRef { id: reader.get_type_id(), brand: read_brand(reader.get_brand()?)? })
        }
        type_::Interface(reader) => Type::Interface(reader.get_type_id()),
        type_::AnyPointer(pointer) => match pointer.which()? {
            any_pointer::Unconstrained(kind) => match kind.which()? {
                unconstrained::Capability(()) => Type::Capability,
                _ => Type::AnyPointer,
            },
            any_pointer::Parameter(parameter) => {
                Type::Parameter { scope: parameter.get_scope_id(), index: parameter.get_parameter_index() }
            }
            any_pointer::ImplicitMethodParameter(_) => Type::MethodParameter,
        },
    })
}

fn read_brand(brand: brand::Reader<'_>) -> capnp::Result<Vec<(u64, Binding)>> {
    let mut scopes = Vec::new();
    for scope in brand.get_scopes()? {
        let binding = match scope.which()? {
            brand::scope::Inherit(()) => Binding::Inherit,
            brand::scope::Bind(bindings) => {
                let mut types = Vec::new();
                for binding in bindings? {
                    types.push(match binding.which()? {
                        brand::binding::Unbound(()) => None,
                        brand::binding::Type(ty) => Some(read_type(ty?)?),
                    });
                }
                Binding::Bind(types)
            }
        };
        scopes.push((scope.get_scope_id(), binding));
    }
    Ok(scopes)
}
