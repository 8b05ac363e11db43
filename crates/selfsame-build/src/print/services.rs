//! An interface becomes a trait to implement, a server that serves it, a client that calls it, and a module of its methods.

use std::collections::HashSet;

use super::docs::comment;
use super::{CODEGEN, Printer, hex, indent};
use crate::fingerprint;
use crate::model::{Interface, Method, Node, Raises, Retry, Type};

/// A method as the client of some interface offers it: its own, or one that it inherits.
struct Offered<'a> {
    interface: &'a Node,
    method: &'a Method,
    function: String,
}

impl Printer<'_> {
    pub(super) fn service(&self, node: &Node, interface: &Interface) -> Vec<String> {
        let offered = self.offered(node);
        let mut lines = self.service_trait(node, interface);
        lines.extend(self.shared(node, interface));
        lines.extend(self.server(node, &offered));
        lines.extend(self.client(node, &offered));
        lines.extend(self.methods(node, interface));
        lines
    }

    /// Own methods first; then those of the interfaces that it extends, each once. An inherited one whose name is taken gets its
    /// interface's name in front.
    fn offered(&self, node: &Node) -> Vec<Offered<'_>> {
        let mut taken = HashSet::new();
        let mut offered = Vec::new();
        for id in std::iter::once(node.id).chain(self.model.bases(node.id)) {
            let (Some(interface), Some(declared)) = (self.model.nodes.get(&id), self.model.interface(id))
            else {
                continue;
            };
            for method in &declared.methods {
                let mut function = self.names.method(id, method.ordinal).function.clone();
                if taken.contains(&function) {
                    function = format!("{}_{function}", self.names.module(id));
                }
                while !taken.insert(function.clone()) {
                    function.push('_');
                }
                offered.push(Offered { interface, method, function });
            }
        }
        offered
    }

    fn trait_path(&self, node: &Node) -> String {
        self.beside(node, self.names.item(node.id))
    }

    fn marker(&self, interface: &Node, method: &Method) -> String {
        format!("{}::{}", self.path(interface), self.names.method(interface.id, method.ordinal).marker)
    }

    fn signature(&self, node: &Node, method: &Method) -> [String; 4] {
        let function = &self.names.method(node.id, method.ordinal).function;
        let marker = self.marker(node, method);
        [
            format!("fn {function}("),
            "    &self,".to_owned(),
            format!("    request: {CODEGEN}::Request<{marker}>,"),
            format!(
                ") -> impl ::core::future::Future<Output = {CODEGEN}::Answer<{marker}>> + ::core::marker::Send"
            ),
        ]
    }

    fn service_trait(&self, node: &Node, interface: &Interface) -> Vec<String> {
        let name = self.names.item(node.id);
        let bases = interface.extends.iter().filter(|base| self.is_interface(**base));
        let bases: String =
            bases.map(|base| format!(" + {}", self.trait_path(self.model.node(*base)))).collect();
        let mut lines = vec![String::new()];
        lines.extend(comment(&node.docs, "///"));
        lines.push(format!(
            "pub trait {name}: ::core::marker::Send + ::core::marker::Sync + 'static{bases} {{"
        ));
        for method in &interface.methods {
            lines.extend(indent(comment(&method.docs, "///")));
            lines.extend(indent(self.signature(node, method)));
            let end = lines.pop().unwrap_or_default();
            lines.push(end + ";");
        }
        lines.push("}".to_owned());
        lines
    }

    /// A service that is shared is a service.
    fn shared(&self, node: &Node, interface: &Interface) -> Vec<String> {
        let path = self.trait_path(node);
        let mut lines =
            vec![String::new(), format!("impl<S: {path} + ?Sized> {path} for ::std::sync::Arc<S> {{")];
        for method in &interface.methods {
            let function = &self.names.method(node.id, method.ordinal).function;
            lines.extend(indent(self.signature(node, method)));
            let end = lines.pop().unwrap_or_default();
            lines.push(end + " {");
            lines.push(format!("        <S as {path}>::{function}(&**self, request)"));
            lines.push("    }".to_owned());
        }
        lines.push("}".to_owned());
        lines
    }

    fn server(&self, node: &Node, offered: &[Offered<'_>]) -> Vec<String> {
        let (name, path) = (self.names.server(node.id), self.trait_path(node));
        let mut lines = vec![
            String::new(),
            format!("/// Serves an implementation of `{}`.", self.model.path(node)),
            format!("pub struct {name}<S> {{"),
            "    service: ::std::sync::Arc<S>,".to_owned(),
            "}".to_owned(),
            String::new(),
            format!("impl<S: {path}> {name}<S> {{"),
            "    /// What a server is to serve.".to_owned(),
            "    pub fn new(service: S) -> Self {".to_owned(),
            "        Self { service: ::std::sync::Arc::new(service) }".to_owned(),
            "    }".to_owned(),
            "}".to_owned(),
            String::new(),
            format!("impl<S> ::core::fmt::Debug for {name}<S> {{"),
            "    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {".to_owned(),
            format!("        f.debug_struct({name:?}).finish_non_exhaustive()"),
            "    }".to_owned(),
            "}".to_owned(),
            String::new(),
            format!("impl<S: {path}> {CODEGEN}::Service for {name}<S> {{"),
            format!("    fn interfaces(&self) -> &'static [&'static {CODEGEN}::InterfaceInfo] {{"),
            format!("        {}::INTERFACES", self.path(node)),
            "    }".to_owned(),
            String::new(),
            format!("    fn call(&self, call: {CODEGEN}::Incoming) -> {CODEGEN}::Answering {{"),
        ];
        if !offered.is_empty() {
            lines.push("        let service = ::std::sync::Arc::clone(&self.service);".to_owned());
        }
        lines.push("        match (call.interface(), call.ordinal()) {".to_owned());
        for Offered { interface, method, .. } in offered {
            let function = &self.names.method(interface.id, method.ordinal).function;
            lines.extend([
                format!("            ({}, {}) => {{", hex(interface.id), method.ordinal),
                format!(
                    "                {CODEGEN}::answer::<{}, _, _>(call, move |request| async move {{",
                    self.marker(interface, method)
                ),
                format!(
                    "                    <S as {}>::{function}(&*service, request).await",
                    self.trait_path(interface)
                ),
                "                })".to_owned(),
                "            }".to_owned(),
            ]);
        }
        lines.extend([
            "            _ => call.unknown_method(),".to_owned(),
            "        }".to_owned(),
            "    }".to_owned(),
            "}".to_owned(),
        ]);
        lines
    }

    fn client(&self, node: &Node, offered: &[Offered<'_>]) -> Vec<String> {
        let name = self.names.client(node.id);
        let path = self.trait_path(node);
        let server = self.beside(node, self.names.server(node.id));
        let mut lines = vec![
            String::new(),
            format!("/// Calls `{}`. Clones share a connection.", self.model.path(node)),
            "#[derive(::core::clone::Clone, ::core::fmt::Debug)]".to_owned(),
            format!("pub struct {name} {{"),
            format!("    channel: {CODEGEN}::Channel,"),
            "}".to_owned(),
            String::new(),
            format!("impl {name} {{"),
            "    /// A client on a channel, which clients of other interfaces may share.".to_owned(),
            format!("    pub fn new(channel: {CODEGEN}::Channel) -> Self {{"),
            format!("        for interface in {}::INTERFACES {{", self.path(node)),
            "            channel.register(interface);".to_owned(),
            "        }".to_owned(),
            "        Self { channel }".to_owned(),
            "    }".to_owned(),
            String::new(),
            "    /// A client on a channel of its own, with the defaults.".to_owned(),
            format!(
                "    pub async fn connect(endpoint: impl ::core::convert::AsRef<str>) -> ::core::result::Result<Self, {CODEGEN}::SetupError> {{"
            ),
            format!(
                "        ::core::result::Result::Ok(Self::new({CODEGEN}::Channel::connect(endpoint).await?))"
            ),
            "    }".to_owned(),
            String::new(),
            "    /// A client that calls an implementation in this process, without sockets.".to_owned(),
            format!("    pub fn local(service: impl {path}) -> Self {{"),
            format!("        Self::new({CODEGEN}::Channel::local({server}::new(service)))"),
            "    }".to_owned(),
            String::new(),
            "    /// The channel that this client calls on.".to_owned(),
            format!("    pub fn channel(&self) -> &{CODEGEN}::Channel {{"),
            "        &self.channel".to_owned(),
            "    }".to_owned(),
        ];
        for Offered { interface, method, function } in offered {
            let marker = self.marker(interface, method);
            lines.push(String::new());
            let docs = comment(&method.docs, "///");
            let calls = format!("/// Calls `{}.{}`.", self.model.path(interface), method.name);
            lines.extend(indent(if docs.is_empty() { vec![calls] } else { docs }));
            lines.extend([
                format!("    pub fn {function}<R: {CODEGEN}::Filled>("),
                "        &self,".to_owned(),
                format!("        fill: impl ::core::ops::FnOnce({}) -> R,", self.builder(&method.params)),
                format!("    ) -> {CODEGEN}::Call<{marker}> {{"),
                format!("        self.channel.call::<{marker}, R>(fill)"),
                "    }".to_owned(),
            ]);
        }
        lines.push("}".to_owned());
        lines
    }

    /// The module of the interface: what stands for its methods, what is known of it, and what is declared in it.
    fn methods(&self, node: &Node, interface: &Interface) -> Vec<String> {
        let mut inner = vec![format!("//! The methods of `{}` and their messages.", self.model.path(node))];
        inner.extend(self.interface_info(node, interface));
        for method in &interface.methods {
            inner.extend(self.method(node, method));
        }
        inner.extend(self.unit(node));
        let mut lines = vec![String::new(), format!("pub mod {} {{", self.names.module(node.id))];
        lines.extend(indent(inner));
        lines.push("}".to_owned());
        lines
    }

    fn interface_info(&self, node: &Node, interface: &Interface) -> Vec<String> {
        let fingerprint = fingerprint::of(self.model, node.id);
        let mut lines = vec![
            String::new(),
            format!("/// What the library knows of `{}`.", self.model.path(node)),
            format!("pub static INTERFACE: {CODEGEN}::InterfaceInfo = {CODEGEN}::InterfaceInfo {{"),
            format!("    id: {},", hex(node.id)),
            format!("    name: {:?},", self.model.path(node)),
            format!("    fingerprint: {},", hex(fingerprint.whole)),
            "    shape: &[".to_owned(),
        ];
        lines.extend(
            fingerprint
                .shape
                .iter()
                .map(|(member, form)| format!("        ({}, {}),", hex(*member), hex(*form))),
        );
        lines.extend(["    ],".to_owned(), "    methods: &[".to_owned()]);
        for method in &interface.methods {
            lines.push(format!("        &<{} as {CODEGEN}::Method>::INFO,", self.marker(node, method)));
        }
        lines.extend(["    ],".to_owned(), "};".to_owned(), String::new()]);
        lines.push(format!("/// `{}` and what it extends.", self.model.path(node)));
        lines.push(format!("pub static INTERFACES: &[&{CODEGEN}::InterfaceInfo] = &["));
        for id in
            std::iter::once(node.id).chain(self.model.bases(node.id)).filter(|id| self.is_interface(*id))
        {
            lines.push(format!("    &{}::INTERFACE,", self.path(self.model.node(id))));
        }
        lines.push("];".to_owned());
        lines
    }

    fn method(&self, node: &Node, method: &Method) -> Vec<String> {
        let name = format!("{}.{}", self.model.path(node), method.name);
        let fault = match &method.raises {
            Some(Raises::Type(Type::Struct(fault))) => self.owned(fault),
            _ => format!("{CODEGEN}::Untyped"),
        };
        let retry = match method.retry {
            Retry::Once => "Once",
            Retry::Idempotent => "Idempotent",
            Retry::ReadOnly => "ReadOnly",
            Retry::Never => "Never",
        };
        vec![
            String::new(),
            format!("/// The method `{name}`."),
            format!("pub enum {} {{}}", self.names.method(node.id, method.ordinal).marker),
            String::new(),
            format!("impl {CODEGEN}::Method for {} {{", self.marker(node, method)),
            format!("    type Params = {};", self.owned(&method.params)),
            format!("    type Results = {};", self.owned(&method.results)),
            format!("    type Fault = {fault};"),
            format!(
                "    const INTERFACE: &'static {CODEGEN}::InterfaceInfo = &{}::INTERFACE;",
                self.path(node)
            ),
            format!("    const INFO: {CODEGEN}::MethodInfo = {CODEGEN}::MethodInfo {{"),
            format!("        interface: {},", hex(node.id)),
            format!("        ordinal: {},", method.ordinal),
            format!("        name: {name:?},"),
            format!("        retry: {CODEGEN}::RetryClass::{retry},"),
            "    };".to_owned(),
            "}".to_owned(),
        ]
    }
}
