//! Which service answers which interface, who may call it, and what the server knows of each method.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;

use crate::codegen::{InterfaceInfo, MethodInfo, Service};
use crate::error::{SetupError, SetupErrorKind};
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
    /// Whether its handler may be polled on the IO thread at all.
    may_inline: bool,
    strikes: u32,
    /// First polls on the IO thread since the last slow one.
    fast: u32,
    /// Calls that were spawned since its handler was last tried on the IO thread, and how many are to be before the next try.
    spawned: u32,
    patience: u32,
}

/// A first poll longer than this costs the other connections of the IO thread more than a task hop costs the call.
const SLOW: Duration = Duration::from_micros(50);
/// One slow poll may be the operating system's doing; this many are the handler's. A poll of a millisecond counts as so many at once.
const STRIKES: u32 = 3;
/// So many fast polls make up for a slow one: a handler that is slow more often than one time in so many is spawned.
const AMENDS: u32 = 64;
/// Calls after which a handler that is spawned is tried again: on a busy machine any may have looked slow. Twice as many after each try in vain.
const PATIENCE: u32 = 1024;

impl MethodRoute {
    fn new(info: &'static MethodInfo) -> MethodRoute {
        MethodRoute { info, may_inline: true, strikes: 0, fast: 0, spawned: 0, patience: PATIENCE }
    }

    /// Whether this call's handler is polled once on the IO thread before it becomes a task of the user's runtime.
    pub fn inline(&mut self) -> bool {
        if self.strikes < STRIKES {
            return self.may_inline;
        }
        self.spawned += 1;
        let again = self.spawned >= self.patience;
        if again {
            self.spawned = 0;
        }
        again && self.may_inline
    }

    /// Tells how long a first poll on the IO thread took.
    pub fn polled(&mut self, took: Duration) {
        let was_spawned = self.strikes >= STRIKES;
        if took <= SLOW {
            self.fast += 1;
            if was_spawned {
                self.strikes = STRIKES - 1;
            } else if self.fast >= AMENDS && self.strikes > 0 {
                self.fast = 0;
                self.strikes -= 1;
                self.patience = PATIENCE;
            }
            return;
        }
        self.fast = 0;
        if was_spawned {
            self.patience = self.patience.saturating_mul(2);
            return;
        }
        self.strikes = if took > 20 * SLOW { STRIKES } else { self.strikes + 1 };
        if self.strikes >= STRIKES {
            tracing::debug!(method = self.info.name, ?took, "handlers of this method are spawned for now");
        }
    }
}

impl Routes {
    pub fn with(mut self, service: impl Service) -> Result<Self, SetupError> {
        let (index, name) = (self.services.len(), name_of(&service));
        for info in service.interfaces() {
            let methods = info.methods.iter().map(|info| (info.ordinal, MethodRoute::new(info))).collect();
            let rival = self.interfaces.insert(info.id, Interface { service: index, info, methods });
            if let Some(rival) = rival.filter(|rival| rival.service != index) {
                let why = format!(
                    "{} and {name} both serve the interface {}, their own or one that they extend, and an interface has one service \
                     on a socket; bind each on a Server of its own, or serve one interface that extends both",
                    name_of(&*self.services[rival.service]),
                    info.name
                );
                return Err(SetupError::new(SetupErrorKind::Other, format!("add the service {name}"), why));
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
            .for_each(|method| method.may_inline = false);
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

/// What a service is called: as its own interface, which comes first.
fn name_of(service: &dyn Service) -> &'static str {
    service.interfaces().first().map_or("without interfaces", |own| own.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::Answering;
    use crate::protocol::RetryClass;
    use crate::server::Incoming;

    /// A service by its interfaces.
    struct Serves(&'static [&'static InterfaceInfo]);

    impl Service for Serves {
        fn interfaces(&self) -> &'static [&'static InterfaceInfo] {
            self.0
        }

        fn call(&self, call: Incoming) -> Answering {
            call.unknown_method()
        }
    }

    const fn interface(id: u64, name: &'static str) -> InterfaceInfo {
        InterfaceInfo { id, name, fingerprint: id, shape: &[], methods: &[] }
    }

    static HEALTH: InterfaceInfo = interface(1, "Health");
    static NURSE: InterfaceInfo = interface(2, "Nurse");
    static DOCTOR: InterfaceInfo = interface(3, "Doctor");
    static OF_NURSE: [&InterfaceInfo; 2] = [&NURSE, &HEALTH];
    static OF_DOCTOR: [&InterfaceInfo; 2] = [&DOCTOR, &HEALTH];

    #[test]
    fn two_services_that_extend_one_interface_are_told_apart_in_the_error() {
        let routes = Routes::default().with(Serves(&OF_NURSE)).unwrap();
        let error = routes.with(Serves(&OF_DOCTOR)).err().unwrap().to_string();
        for part in ["Nurse and Doctor both serve the interface Health", "on a Server of its own"] {
            assert!(error.contains(part), "{error}");
        }
        let routes = Routes::default().with(Serves(&OF_NURSE[..1])).unwrap();
        assert!(routes.with(Serves(&OF_DOCTOR)).is_ok());
    }

    const FAST: Duration = Duration::from_micros(5);

    static INFO: MethodInfo = MethodInfo { interface: 1, ordinal: 0, name: "A.b", retry: RetryClass::Once };

    fn run(route: &mut MethodRoute, calls: u32, took: Duration) -> u32 {
        let inline = |_: &u32| {
            let inline = route.inline();
            if inline {
                route.polled(took);
            }
            inline
        };
        (0..calls).filter(inline).count() as u32
    }

    #[test]
    fn a_slow_handler_is_spawned_and_tried_less_and_less_often() {
        let mut route = MethodRoute::new(&INFO);
        assert_eq!(run(&mut route, 1_000, 2 * SLOW), STRIKES);
        assert_eq!(
            run(&mut route, 100 * PATIENCE, 2 * SLOW),
            6,
            "after 1, 2, 4, 8, 16, 32 times the patience"
        );
    }

    #[test]
    fn a_handler_that_looked_slow_on_a_busy_machine_comes_back() {
        let mut route = MethodRoute::new(&INFO);
        assert_eq!(run(&mut route, 1, 1_000 * SLOW), 1);
        assert_eq!(run(&mut route, PATIENCE, FAST), 1);
        assert_eq!(run(&mut route, 1_000, FAST), 1_000);
        // And rare slow polls do not add up.
        for _ in 0..100 {
            assert_eq!(run(&mut route, 1, 2 * SLOW), 1);
            assert_eq!(run(&mut route, AMENDS, FAST), AMENDS);
        }
    }

    #[test]
    fn a_server_that_spawns_all_tries_none() {
        let mut route = MethodRoute { may_inline: false, ..MethodRoute::new(&INFO) };
        assert_eq!(run(&mut route, 10 * PATIENCE, FAST), 0);
    }
}
