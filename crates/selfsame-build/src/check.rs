//! Refuses what cannot work, before anything is printed: each refusal says where, what is wrong, and what to do.
//!
//! The schema compiler has refused by now what Cap'n Proto itself forbids. Here come the limits of selfsame (no capabilities, concrete
//! services, what a topic may be called) and those of capnpc.

mod events;
mod types;

use std::collections::HashMap;

use crate::error::Refusal;
use crate::model::read::STREAM_RESULT;
use crate::model::{Interface, Kind, Method, Model, Node, Place, Raises, Says, Type};
use crate::names::Names;

/// All refusals, in the order of the files and of the declarations in them.
pub(crate) fn check(model: &Model, names: &Names) -> Vec<Refusal> {
    let mut checker = Checker { model, refusals: Vec::new() };
    checker.modules(names);
    for file in model.files.iter().filter(|file| file.place == Place::Here) {
        checker.scope(file.id);
    }
    checker.topics();
    checker.refusals
}

struct Checker<'a> {
    model: &'a Model,
    refusals: Vec<Refusal>,
}

impl Checker<'_> {
    fn is_generic(&self, id: u64) -> bool {
        self.model.nodes.get(&id).is_some_and(|node| node.generic)
    }

    fn refuse(&mut self, node: &Node, item: String, wrong: impl Into<String>, remedy: impl Into<String>) {
        let file = self.model.file_of(node).map_or_else(String::new, |file| file.shown.clone());
        self.refusals.push(Refusal { file, item, wrong: wrong.into(), remedy: remedy.into() });
    }

    /// `Outer.member`, or `member` where it stands in the file itself.
    fn item(&self, node: &Node, member: &str) -> String {
        match node.kind {
            Kind::File => member.to_owned(),
            _ => format!("{}.{member}", self.model.path(node)),
        }
    }

    /// Two modules of one name: two files, or a file and a declaration of the file whose name its folder bears.
    fn modules(&mut self, names: &Names) {
        let model = self.model;
        let mut modules: HashMap<Vec<String>, (&Node, String)> = HashMap::new();
        let here = model.files.iter().filter(|file| file.place == Place::Here);
        let nodes: Vec<&Node> = here.filter_map(|file| model.nodes.get(&file.id)).collect();
        for node in &nodes {
            let path = names.modules(model, node);
            let shown = model.file_of(node).map_or("", |file| &file.shown);
            if let Some((_, other)) = modules.insert(path.clone(), (node, shown.to_owned())) {
                let wrong = format!("it and {other} would both become the module `{}`", path.join("::"));
                self.refuse(node, String::new(), wrong, "rename one of the files");
            }
        }
        for node in &nodes {
            for nested in node.nested.iter().filter_map(|id| model.nodes.get(id)) {
                let path = names.modules(model, nested);
                let is_module = matches!(nested.kind, Kind::Struct(_) | Kind::Enum(_) | Kind::Interface(_));
                if let (true, Some((_, other))) = (is_module, modules.get(&path)) {
                    let wrong =
                        format!("it and the file {other} would both become the module `{}`", path.join("::"));
                    self.refuse(nested, model.path(nested), wrong, "rename the file or the declaration");
                }
            }
        }
    }

    fn scope(&mut self, id: u64) {
        let Some(node) = self.model.nodes.get(&id) else { return };
        match &node.kind {
            Kind::Struct(structure) => self.structure(node, structure),
            Kind::Interface(interface) => self.interface(node, interface),
            Kind::Const(ty) => self.constant(node, ty),
            Kind::Enum(declared) if declared.enumerants.is_empty() => {
                let wrong = "an enum without enumerants has no value";
                self.refuse(node, self.model.path(node), wrong, "give it one, or leave it out");
            }
            Kind::File | Kind::Enum(_) | Kind::Annotation => {}
        }
        for &nested in &node.nested {
            self.scope(nested);
        }
    }

    fn interface(&mut self, node: &Node, interface: &Interface) {
        let path = self.model.path(node);
        if node.generic {
            let wrong = "a generic interface cannot be served, since the messages of a service must be known";
            self.refuse(
                node,
                path.clone(),
                wrong,
                "write an interface for each type, or take the generic struct as a parameter",
            );
            return;
        }
        for base in &interface.extends {
            if self.model.interface(*base).is_none() {
                self.refuse(node, path.clone(), "what it extends is no interface", "extend an interface");
            }
        }
        if is_own_base(self.model, node.id) {
            self.refuse(node, path.clone(), "it extends itself", "break the circle");
        }
        self.says(node, path, &interface.says);
        for method in &interface.methods {
            self.method(node, method);
        }
    }

    /// That no annotation is there twice: which of them was meant, nobody knows.
    fn says(&mut self, node: &Node, item: String, says: &Says) {
        if says.retry.len() > 1 {
            self.refuse(node, item.clone(), "it has more than one retry class", "keep one $Selfsame.retry");
        }
        if says.raises.len() > 1 {
            let wrong = "it raises more than one struct";
            self.refuse(node, item, wrong, "keep one $Selfsame.Raises(…).it, of a struct with a union");
        }
    }

    fn method(&mut self, node: &Node, method: &Method) {
        let item = self.item(node, &method.name);
        self.says(node, item.clone(), &method.says);
        if method.generic {
            let wrong =
                "a method with type parameters of its own cannot be served, since its messages must be known";
            self.refuse(node, item, wrong, "write a method for each type");
            return;
        }
        if method.results.id == STREAM_RESULT {
            let wrong = "it streams, which selfsame cannot: each call has one reply";
            self.refuse(node, item, wrong, "return a result, or publish events with $Selfsame.topic");
            return;
        }
        for message in [&method.params, &method.results] {
            match self.model.structure(message.id) {
                Some(structure) if structure.is_implicit => {
                    if let Some(declared) = self.model.nodes.get(&message.id) {
                        self.fields(declared, structure, &item);
                    }
                }
                Some(_) => self.usable(node, &item, &Type::Struct(message.clone())),
                None => {
                    self.refuse(node, item.clone(), "its message is no struct", "take and return structs")
                }
            }
        }
        match &method.raises {
            None => {}
            Some(Raises::Nothing) => {
                let remedy = "name the struct of the typed no: $Selfsame.Raises(MyFault).it";
                self.refuse(node, item, "`$Selfsame.Raises` names no struct", remedy);
            }
            Some(Raises::Type(Type::Struct(fault))) if !self.is_generic(fault.id) => {}
            Some(Raises::Type(Type::Struct(_))) => {
                let wrong = "what it raises is generic, and a fault is told by its type id, which says nothing of type arguments";
                self.refuse(node, item, wrong, "raise a struct without type parameters");
            }
            Some(Raises::Type(_)) => {
                self.refuse(
                    node,
                    item,
                    "what it raises is no struct",
                    "raise a struct: $Selfsame.Raises(MyFault).it",
                );
            }
        }
    }
}

fn is_own_base(model: &Model, id: u64) -> bool {
    let extends = |id| model.interface(id).map_or(&[][..], |interface| &interface.extends);
    extends(id)
        .iter()
        .any(|&base| base == id || model.bases(base).contains(&id) || extends(base).contains(&id))
}
