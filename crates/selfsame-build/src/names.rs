//! Which Rust names the generated items bear: no two the same in one module, none a keyword, none that capnpc's own code needs.
//!
//! A name that the contract gives wins over one that is made up (`AccountClient`, a method's marker), and whoever loses gets an
//! underscore at the end, which no Cap'n Proto name may contain. A declaration's names depend on its own scope alone, never on other files;
//! and a contract that grows changes a name only by declaring that very name itself.

use std::collections::{HashMap, HashSet};

use crate::model::{FieldKind, Kind, Model, Node, Struct};

/// The names of all generated items.
#[derive(Default)]
pub(crate) struct Names {
    /// The module of a struct, a group, an enum or an interface.
    modules: HashMap<u64, String>,
    /// The type, alias, trait or constant of a declaration.
    items: HashMap<u64, String>,
    servers: HashMap<u64, String>,
    clients: HashMap<u64, String>,
    methods: HashMap<(u64, u16), MethodNames>,
    /// Fields and enumerants that capnpc needs to call otherwise, in Cap'n Proto's spelling.
    members: HashMap<(u64, usize), String>,
    /// The type parameters of a generic struct.
    parameters: HashMap<u64, Vec<String>>,
}

/// What a method is called.
#[derive(Clone, Debug)]
pub(crate) struct MethodNames {
    /// In the trait and in the client.
    pub function: String,
    /// The type that stands for it.
    pub marker: String,
}

const KEYWORDS: [&str; 52] = [
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate", "do", "dyn",
    "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop",
    "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref", "return", "self", "Self",
    "static", "struct", "super", "trait", "true", "try", "type", "typeof", "unsafe", "unsized", "use",
    "virtual", "where", "while", "yield",
];

/// More words that capnpc puts an underscore behind.
const CAPNPC_KEYWORDS: [&str; 6] = ["alignof", "offsetof", "once", "proc", "pure", "sizeof"];

/// capnpc's code says these without a path, so that no module may be called so.
const BARE: [&str; 18] = [
    "core", "bool", "char", "str", "u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64",
    "i128", "isize", "f32", "f64",
];

/// What capnpc puts into the module of every struct.
const OF_A_STRUCT: [&str; 7] =
    ["Owned", "Reader", "Builder", "Pipeline", "Which", "WhichReader", "WhichBuilder"];

/// What a generated client can do besides calling, and what its traits would hide.
const OF_A_CLIENT: [&str; 5] = ["new", "connect", "local", "channel", "clone"];

/// `fooBar` to `foo_bar`, as capnpc does it.
pub(crate) fn snake(camel: &str) -> String {
    let mut name = String::with_capacity(camel.len() + 4);
    for (index, letter) in camel.char_indices() {
        if letter.is_uppercase() && index > 0 {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

/// `fooBar` to `FooBar`.
pub(crate) fn capitalised(camel: &str) -> String {
    let mut letters = camel.chars();
    letters.next().map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + letters.as_str())
}

/// The module of a schema file or of a folder of them.
pub(crate) fn file_module(stem: &str) -> String {
    let clean: String = stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let mut name = String::new();
    for (index, letter) in clean.char_indices() {
        // `MyFile`, `myFile` and `my-file` are all one habit or another of writing `my_file`.
        if letter.is_ascii_uppercase() && index > 0 && !name.ends_with('_') {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        name.insert(0, '_');
    }
    if name.chars().all(|c| c == '_') {
        name.push('0');
    }
    if is_reserved(&name) { name + "_" } else { name }
}

fn is_reserved(name: &str) -> bool {
    KEYWORDS.contains(&name) || CAPNPC_KEYWORDS.contains(&name) || BARE.contains(&name)
}

/// The names that one module has given away. Rust keeps types and modules apart from constants and functions.
struct Scope {
    types: HashSet<String>,
    values: HashSet<String>,
}

impl Scope {
    /// `From`: capnpc's code for an enum says it without a path.
    fn new(types: &[&str], values: &[&str]) -> Self {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<HashSet<_>>();
        let mut scope = Scope { types: set(types), values: set(values) };
        scope.types.insert("From".to_owned());
        scope
    }

    fn take_type(&mut self, wish: String) -> String {
        take(&mut self.types, wish)
    }

    fn take_value(&mut self, wish: String) -> String {
        take(&mut self.values, wish)
    }
}

fn take(taken: &mut HashSet<String>, mut name: String) -> String {
    while is_reserved(&name) || taken.contains(&name) {
        name.push('_');
    }
    taken.insert(name.clone());
    name
}

impl Names {
    pub fn new(model: &Model) -> Self {
        let mut names = Names::default();
        for node in model.nodes.values() {
            match &node.kind {
                Kind::File => names.declare(model, node, &mut Scope::new(&[], &[])),
                Kind::Struct(structure) => names.declare_in_struct(model, node, structure),
                Kind::Interface(_) => {
                    let mut scope = Scope::new(&[], &["INTERFACE", "INTERFACES"]);
                    names.declare(model, node, &mut scope);
                    names.declare_methods(model, node, &mut scope);
                }
                Kind::Enum(declared) => {
                    for (index, name) in
                        declared.enumerants.iter().enumerate().filter(|(_, name)| *name == "self")
                    {
                        names.members.insert((node.id, index), format!("{name}_"));
                    }
                }
                Kind::Const(_) | Kind::Annotation => {}
            }
        }
        names
    }

    /// Names what a scope declares: first what the contract names, then what follows from it.
    fn declare(&mut self, model: &Model, scope_node: &Node, scope: &mut Scope) {
        let nested: Vec<&Node> = scope_node.nested.iter().filter_map(|id| model.nodes.get(id)).collect();
        for node in &nested {
            match node.kind {
                Kind::Enum(_) => {
                    // capnpc derives the enum's private module from the name of the type.
                    let mut name = node.name.clone();
                    while is_reserved(&name)
                        || is_reserved(&capnpc_module(&name))
                        || scope.types.contains(&name)
                        || scope.types.contains(&capnpc_module(&name))
                    {
                        name.push('_');
                    }
                    let module = capnpc_module(&name);
                    scope.types.extend([name.clone(), module.clone()]);
                    self.items.insert(node.id, name);
                    self.modules.insert(node.id, module);
                }
                Kind::Struct(_) | Kind::Interface(_) => {
                    self.modules.insert(node.id, scope.take_type(snake(&node.name)));
                    self.items.insert(node.id, scope.take_type(node.name.clone()));
                }
                Kind::Const(_) => {
                    let name = scope.take_value(snake(&node.name).to_ascii_uppercase());
                    self.items.insert(node.id, name);
                }
                Kind::File | Kind::Annotation => {}
            }
        }
        for node in nested.iter().filter(|node| matches!(node.kind, Kind::Interface(_))) {
            self.servers.insert(node.id, scope.take_type(format!("{}Server", node.name)));
            self.clients.insert(node.id, scope.take_type(format!("{}Client", node.name)));
        }
    }

    fn declare_in_struct(&mut self, model: &Model, node: &Node, structure: &Struct) {
        let mut scope = Scope::new(&OF_A_STRUCT, &[]);
        for (index, field) in
            structure.fields.iter().enumerate().filter(|(_, field)| field.discriminant.is_some())
        {
            let variant = scope.take_type(capitalised(&field.name));
            let renamed = variant.len() - field.name.len();
            scope.values.insert(variant);
            if renamed > 0 {
                self.members.insert((node.id, index), field.name.clone() + &"_".repeat(renamed));
            }
        }
        for field in &structure.fields {
            if let FieldKind::Group(group) = field.kind {
                self.modules.insert(group, scope.take_type(snake(&field.name)));
            }
        }
        self.declare(model, node, &mut scope);
        if !node.parameters.is_empty() {
            self.parameters.insert(node.id, parameters(model, node));
        }
    }

    fn declare_methods(&mut self, model: &Model, node: &Node, scope: &mut Scope) {
        let Some(interface) = model.interface(node.id) else { return };
        let mut functions: HashSet<String> = OF_A_CLIENT.iter().map(|name| (*name).to_owned()).collect();
        for method in &interface.methods {
            let function = take(&mut functions, snake(&method.name));
            let marker = scope.take_type(capitalised(&method.name));
            self.methods.insert((node.id, method.ordinal), MethodNames { function, marker });
        }
        for method in &interface.methods {
            for (id, suffix) in [(method.params.id, "Params"), (method.results.id, "Results")] {
                if model.structure(id).is_some_and(|structure| structure.is_implicit) {
                    let module = scope.take_type(snake(&format!("{}{suffix}", method.name)));
                    self.modules.insert(id, module);
                }
            }
        }
    }

    pub fn module(&self, id: u64) -> &str {
        self.modules.get(&id).map_or("", String::as_str)
    }

    pub fn item(&self, id: u64) -> &str {
        self.items.get(&id).map_or("", String::as_str)
    }

    pub fn server(&self, id: u64) -> &str {
        &self.servers[&id]
    }

    pub fn client(&self, id: u64) -> &str {
        &self.clients[&id]
    }

    pub fn method(&self, interface: u64, ordinal: u16) -> &MethodNames {
        &self.methods[&(interface, ordinal)]
    }

    /// How capnpc is to call a field or an enumerant, if not by its name.
    pub fn member(&self, node: u64, index: usize) -> Option<&str> {
        self.members.get(&(node, index)).map(String::as_str)
    }

    pub fn parameters(&self, id: u64) -> &[String] {
        self.parameters.get(&id).map_or(&[], Vec::as_slice)
    }

    /// The modules from the root of the crate's generated code down to that of a declaration, which the last one is.
    pub fn modules(&self, model: &Model, node: &Node) -> Vec<String> {
        match node.parent.and_then(|parent| model.nodes.get(&parent)) {
            Some(parent) => {
                let mut modules = self.modules(model, parent);
                modules.push(self.module(node.id).to_owned());
                modules
            }
            None => model.file(node.id).map_or_else(Vec::new, |file| file.module.clone()),
        }
    }
}

/// The module that capnpc derives from a name.
pub(crate) fn capnpc_module(name: &str) -> String {
    let name = snake(name);
    let is_keyword = name != "Self" && (CAPNPC_KEYWORDS.contains(&&*name) || capnpc_knows(&name));
    if is_keyword { name + "_" } else { name }
}

fn capnpc_knows(name: &str) -> bool {
    KEYWORDS.contains(&name) && !["async", "await", "dyn", "gen", "try"].contains(&name)
}

/// Type parameters that neither hide one further out nor what a struct's module holds.
fn parameters(model: &Model, node: &Node) -> Vec<String> {
    let mut taken: HashSet<String> = OF_A_STRUCT.iter().map(|name| (*name).to_owned()).collect();
    let mut outer = node.parent.and_then(|parent| model.nodes.get(&parent));
    while let Some(scope) = outer {
        // What the outer scopes' parameters are called in the end does not matter: underscores are added to theirs in the same way.
        let theirs = parameters(model, scope);
        taken.extend(theirs);
        outer = scope.parent.and_then(|parent| model.nodes.get(&parent));
    }
    node.parameters.iter().map(|name| take(&mut taken, name.clone())).collect()
}
