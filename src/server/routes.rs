//! Which service answers which interface, who may call it, and what the server knows of each method.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::codegen::{InterfaceInfo, MethodInfo, Service};
use crate::error::SetupError;
use crate::principal::Rules;
use crate::protocol::wire::Contract;

/// The services of a server, by interface.
#[derive(Default)]
pub(super) struct Routes {
    services: Vec<Arc<dyn Service>>,
    interfaces: HashMap<u64, Interface>,
    pub rules: Rules,
}

struct Interface {
    service: usize,
    info: &'static InterfaceInfo,
    methods: HashMap<u16, MethodRoute>,
}

/// A method and how its handler has behaved.
pub(super) struct MethodRoute {
    pub info: &'static MethodInfo,
    slowness: u32,
}

/// A first poll longer than this costs the other connections of the IO thread more than a task hop costs the call.
const SLOW: Duration = Duration::from_micros(50);
/// One slow poll may be the operating system's doing; this many are the handler's. A poll of a millisecond counts as so many at once.
const STRIKES: u32 = 3;

impl MethodRoute {
    /// Whether its handlers are polled once on the IO thread before they become tasks of the user's runtime.
    pub fn inline(&self) -> bool {
        self.slowness < STRIKES
    }

    /// Its handlers are spawned from now on.
    fn spawn(&mut self) {
        self.slowness = STRIKES;
    }

    /// Tells how long a first poll on the IO thread took.
    pub fn polled(&mut self, took: Duration) {
        if took > 20 * SLOW {
            self.spawn();
        } else if took > SLOW {
            self.slowness += 1;
        }
        if !self.inline() {
            tracing::debug!(
                method = self.info.name,
                ?took,
                "handlers of this method are spawned from now on"
            );
        }
    }
}

impl Routes {
    pub fn with(mut self, service: impl Service) -> Result<Self, SetupError> {
        let index = self.services.len();
        for info in service.interfaces() {
            let methods =
                info.methods.iter().map(|info| (info.ordinal, MethodRoute { info, slowness: 0 })).collect();
            let rival = self.interfaces.insert(info.id, Interface { service: index, info, methods });
            if rival.is_some_and(|rival| rival.service != index) {
                let why =
                    format!("two services serve interface {}; each interface has one on a socket", info.name);
                return Err(SetupError::new("add a service", why));
            }
        }
        self.services.push(Arc::new(service));
        Ok(self)
    }

    /// Every handler is a task from its first poll on.
    pub fn spawn_all(&mut self) {
        self.interfaces
            .values_mut()
            .flat_map(|interface| interface.methods.values_mut())
            .for_each(MethodRoute::spawn);
    }

    pub fn method(&mut self, interface: u64, ordinal: u16) -> Option<(&Arc<dyn Service>, &mut MethodRoute)> {
        let interface = self.interfaces.get_mut(&interface)?;
        Some((&self.services[interface.service], interface.methods.get_mut(&ordinal)?))
    }

    /// Of a client's contracts, those that differ from ours, with our shape: the client decides whether it can live with that.
    pub fn differing(&self, theirs: &[Contract]) -> Vec<Contract> {
        let ours = |contract: &Contract| {
            let info = self.interfaces.get(&contract.interface)?.info;
            (info.fingerprint != contract.fingerprint).then(|| Contract {
                interface: info.id,
                fingerprint: info.fingerprint,
                shape: info.shape.to_vec(),
            })
        };
        let mut named = HashSet::new();
        theirs.iter().filter(|contract| named.insert(contract.interface)).filter_map(ours).collect()
    }
}
