//! The client's fingerprint; see `protocol::fingerprint`.

use std::hash::Hasher;

use super::Client;
use super::connection::Connection;
use super::open::Open;
use super::welcome::Standing;
use crate::protocol::Moment;
use crate::protocol::fingerprint::shown;
use crate::protocol::retry::Random;

impl Client {
    /// Adds all that decides what the client does next. The dice are left out: [`reseed`](Client::reseed) them before each verb.
    pub fn fingerprint(&self, now: Moment, hasher: &mut impl Hasher) {
        let Client {
            config: _,
            session,
            random: _,
            budget: _,
            calls,
            queue,
            keyed,
            keyed_attempts,
            numbers,
            under_way,
            connection,
            standing,
            contracts,
            unnamed,
            owed,
            owed_since: _,
            actions,
            counters,
        } = self;
        shown(&(session, queue, keyed_attempts, numbers, under_way, unnamed, owed), hasher);
        shown(&(contracts, actions), hasher);
        let mut keys: Vec<_> = keyed.iter().collect();
        keys.sort_unstable();
        shown(&(keys, calls.places()), hasher);
        for (handle, call) in calls.iter() {
            shown(&handle, hasher);
            call_to(call, counters.welcomes, now, hasher);
        }
        connection_to(connection, hasher);
        if let Some(standing) = standing {
            standing_to(standing, hasher);
        }
    }

    /// New dice: the next hello, ping and session follow from this seed.
    pub fn reseed(&mut self, seed: u64) {
        self.random = Random::new(seed);
    }
}

fn call_to(call: &Open, welcomes: u64, now: Moment, hasher: &mut impl Hasher) {
    let Open {
        intent,
        order,
        state,
        wake,
        number,
        first,
        unsettled,
        earliest,
        latest,
        sent: _,
        welcome,
        attempts: _,
        tries,
        refused,
    } = call;
    let wake = (*wake != intent.deadline).then(|| wake.saturating_sub(now));
    shown(&(intent.interface, intent.method, intent.retry, &intent.body, intent.key), hasher);
    shown(&(order, state, wake, number, first, unsettled), hasher);
    shown(&(earliest, latest, *welcome == welcomes, tries, refused), hasher);
}

fn connection_to(connection: &Connection, hasher: &mut impl Hasher) {
    let Connection { link, hello, hello_sent: _, greetings, comparing, heard: _, pong, .. } = connection;
    shown(&(link, hello, greetings, comparing, pong), hasher);
}

fn standing_to(standing: &Standing, hasher: &mut impl Hasher) {
    // What is a value stays; when the server was last heard of is a retention away.
    let mut standing = standing.clone();
    standing.proven = Moment::ZERO;
    shown(&standing, hasher);
}
