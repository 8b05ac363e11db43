//! The 22 statements of the guarantee (docs/design.md, "The guarantee") over real sockets and real stores: each test bears the number of its statement,
//! is written once, and is run over every store to which it applies, as `durable::s07_…` and so on. The machines have tests of the same numbers for what
//! only they can see.
//!
//! The client is mostly a hand-held one, which speaks the wire itself: so it can send what a client of ours never would, such as a copy of an attempt, a
//! number that it has acknowledged, or somebody else's registration. A server crashes by being dropped with all its handlers, undrained.
//!
//! What a store promises beyond the others has tests of its own: `restarts` where records outlive the server, `replicas` where servers share them, and
//! of a crash before the end was written, s15, one for a store that can only say Unknown and one for a store that undoes what the handler did.
//!
//! What has no test here, and why, is in [`ELSEWHERE`]; a test holds that table against the tests that there are.

#[path = "../examples/contracts/mod.rs"]
#[allow(dead_code)]
mod api;
#[path = "statements/fixture.rs"]
mod fixture;
#[cfg(feature = "redb")]
#[path = "statements/full_disk.rs"]
mod full_disk;
#[path = "statements/hand.rs"]
#[allow(dead_code)]
mod hand;
#[path = "statements/handlers.rs"]
mod handlers;
#[path = "statements/nonces.rs"]
mod nonces;
#[cfg(feature = "postgres")]
#[path = "statements/outages.rs"]
mod outages;
#[cfg(feature = "postgres")]
#[path = "statements/relay.rs"]
mod relay;
#[cfg(feature = "postgres")]
#[path = "statements/replicas.rs"]
mod replicas;
#[cfg(any(feature = "redb", feature = "postgres"))]
#[path = "statements/restarts.rs"]
mod restarts;
#[cfg(feature = "postgres")]
#[path = "statements/schema.rs"]
mod schema;
#[path = "statements/sessions.rs"]
mod sessions;
#[path = "transport/mod.rs"]
mod transport;
#[path = "statements/vault.rs"]
mod vault;

use fixture::Fixture;

/// `(statements, stores, why there is no test over these stores)`.
const ELSEWHERE: &[(&[u32], &[&str], &str)] = &[
    (&[10], EVERY, "the client's alone, and no store makes a difference to it: `client::s10_…`"),
    (&[15], &["memory"], "a restart of a memory store is another store: s08 tells what is Unknown then"),
    (
        &[20],
        EVERY,
        "needs two principals, and so TLS, which no store makes a difference to: `principals::s20_…` in tests/tls",
    ),
    (&[22], &["memory"], "a memory store writes nothing"),
];

const EVERY: &[&str] = &["memory", "durable", "shared", "atomic"];

/// Tests over the store that `$place` makes.
macro_rules! tests {
    ($place:path: $($module:ident::$test:ident)+) => {
        $(
            #[tokio::test]
            async fn $test() {
                super::$module::$test($place().await).await;
            }
        )+
    };
}

/// What holds at every store.
macro_rules! of_every_store {
    ($place:path) => {
        tests! { $place:
            nonces::s01_identity_is_the_registration_and_not_the_connection
            nonces::s02_a_retry_that_arrives_while_the_first_attempt_runs_joins_it
            nonces::s03_a_retry_after_completion_gets_the_stored_reply
            nonces::s04_the_same_nonce_with_another_body_or_method_is_a_mismatch
            sessions::s05_a_number_below_the_acknowledged_ones_is_stale_even_as_a_first_copy
            sessions::s06_acknowledgements_only_rise_and_never_collect_what_runs
            sessions::s07_unknown_session_is_refused
            sessions::s08_a_call_to_another_incarnation_does_not_run
            sessions::s08_a_call_first_sent_under_another_store_is_not_run
            sessions::s09_a_call_that_may_have_run_does_not_fail_over_to_another_store
            handlers::s11_what_the_handler_answers_decides_what_is_kept
            handlers::s12_a_panic_is_recorded_as_failed_and_the_server_lives_on
            handlers::s13_a_cancellation_frees_no_number_and_stops_no_handler
            handlers::s14_a_call_whose_handler_was_dropped_is_answered
            sessions::s16_a_session_that_was_silent_for_the_retention_is_gone
            nonces::s17_a_keyed_nonce_that_has_expired_or_is_older_than_the_store_is_refused
            handlers::s18_at_a_cap_calls_are_refused_and_nothing_is_forgotten
            handlers::s18_keyed_records_have_the_bound_that_the_server_was_given
            handlers::s18_a_reply_above_the_limit_is_sent_once_and_not_kept
            nonces::s19_two_clients_that_share_a_session_are_told_apart
            handlers::s21_a_call_whose_time_is_up_is_not_started
            handlers::s21_all_attempts_share_one_deadline_and_one_budget
        }
    };
}

/// What holds at every store that outlives its server.
#[cfg(any(feature = "redb", feature = "postgres"))]
macro_rules! of_stores_that_last {
    ($place:path) => {
        tests! { $place:
            restarts::s03_the_stored_reply_survives_the_server
            restarts::s04_s19_a_record_is_compared_after_a_restart_too
            restarts::s07_a_restarted_server_resumes_the_session
            restarts::s17_keyed_records_and_expired_keys_are_known_after_a_restart
        }
    };
}

/// What holds at every store that several servers share.
#[cfg(feature = "postgres")]
macro_rules! of_stores_with_replicas {
    ($place:path) => {
        tests! { $place:
            replicas::s02_a_retry_at_another_replica_joins
            replicas::s03_another_replica_replays_to_the_byte
            replicas::s04_s19_another_replica_compares_too
            replicas::s05_what_one_replica_heard_closed_is_stale_at_the_other
            replicas::s09_a_once_call_fails_over_to_a_replica_of_the_same_store
            replicas::s17_a_keyed_call_is_found_at_the_other_replica
        }
    };
}

mod client {
    #[tokio::test]
    async fn s10_a_later_definite_refusal_leaves_an_ambiguous_call_ambiguous() {
        super::handlers::s10_a_later_definite_refusal_leaves_an_ambiguous_call_ambiguous().await;
    }
}

mod memory {
    of_every_store! { super::Fixture::memory }
}

#[cfg(feature = "redb")]
mod durable {
    of_every_store! { super::Fixture::durable }
    of_stores_that_last! { super::Fixture::durable }
    tests! { super::Fixture::durable:
        restarts::s05_a_closed_number_stays_closed_over_a_restart
        restarts::s15_an_intent_without_completion_is_unknown_and_never_run_again
        restarts::s15_an_unfinished_call_runs_again_where_the_store_is_told_so
        restarts::s18_the_window_is_as_full_after_a_restart_as_before
        full_disk::s22_a_store_that_cannot_write_stops_and_nothing_told_is_lost
    }
}

#[cfg(feature = "postgres")]
mod shared {
    of_every_store! { super::Fixture::shared }
    of_stores_that_last! { super::Fixture::shared }
    of_stores_with_replicas! { super::Fixture::shared }
    tests! { super::Fixture::shared_alone:
        outages::s22_while_the_database_is_lost_nothing_false_is_told_and_nothing_told_is_lost
    }
    tests! { super::Fixture::shared:
        replicas::s14_s16_the_record_of_an_owner_that_died_becomes_unknown_after_its_lease
        restarts::s15_an_intent_without_completion_is_unknown_and_never_run_again
    }
}

#[cfg(feature = "postgres")]
mod atomic {
    of_every_store! { super::Fixture::atomic }
    of_stores_that_last! { super::Fixture::atomic }
    of_stores_with_replicas! { super::Fixture::atomic }
    tests! { super::Fixture::atomic_alone:
        outages::s22_while_the_database_is_lost_nothing_false_is_told_and_nothing_told_is_lost
    }
    tests! { super::Fixture::atomic:
        replicas::s14_a_call_whose_owner_died_runs_at_the_other_replica
        restarts::s15_a_crash_before_the_commit_leaves_nothing_and_a_retry_runs_once
    }
}

// Stores make no difference to what connects, so the one that costs no time will do.
#[test]
fn the_same_over_a_unix_socket() {
    transport::again_over_ipc("memory::");
}

#[cfg(feature = "tls")]
#[test]
fn the_same_over_tls() {
    transport::again_over_tls("memory::");
}

/// The names of all tests here, as the test harness knows them.
fn names() -> String {
    let this = std::env::current_exe().unwrap();
    let listed = std::process::Command::new(this).arg("--list").output().unwrap();
    String::from_utf8(listed.stdout).unwrap()
}

#[test]
fn every_statement_is_tested_over_every_store_or_the_table_says_why_not() {
    let (redb, postgres) = (cfg!(feature = "redb"), cfg!(feature = "postgres"));
    let built = [("memory", true), ("durable", redb), ("shared", postgres), ("atomic", postgres)];
    let names = names();
    for (store, _) in built.into_iter().filter(|(_, built)| *built) {
        for statement in 1..=22 {
            let prefix = format!("{store}::s{statement:02}_");
            let is_tested = names.lines().any(|name| name.starts_with(&prefix));
            let mut table = ELSEWHERE.iter();
            let why_not = table
                .find(|(statements, stores, _)| statements.contains(&statement) && stores.contains(&store));
            assert_ne!(is_tested, why_not.is_some(), "statement {statement} over {store}: {why_not:?}");
        }
    }
}
