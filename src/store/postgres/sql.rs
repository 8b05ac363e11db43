//! The statements, prepared once a connection. What they mean together, and in which order they come, is said where they are used.
//!
//! "@" stands for the schema: names are qualified, so that the `search_path` stays whatever the handlers of an atomic store want it to be.

use tokio_postgres::{Client, Error, Statement};

macro_rules! statements {
    ($($(#[doc = $doc:literal])* $name:ident: $sql:expr,)+) => {
        /// Prepared on one connection.
        pub(super) struct Statements {
            $($(#[doc = $doc])* pub $name: Statement,)+
        }

        impl Statements {
            /// All in one round trip: each is sent before the first is answered.
            pub async fn prepare(client: &Client, schema: &str) -> Result<Self, Error> {
                let ($($name,)+) =
                    tokio::try_join!($(async { client.prepare(&qualified($sql, schema)).await },)+)?;
                Ok(Statements { $($name,)+ })
            }
        }
    };
}

/// Puts the name of the schema in.
pub(super) fn qualified(sql: &str, schema: &str) -> String {
    sql.replace('@', &format!("\"{schema}\""))
}

/// The number of an advisory lock: for one purpose in one schema.
pub(super) fn lock_number(purpose: &str, schema: &str) -> i64 {
    crate::nonce::hash(&[b"selfsame lock", purpose.as_bytes(), schema.as_bytes()]) as i64
}

/// The columns that `rows::found` reads.
macro_rules! record {
    () => {
        "r.key, r.interface, r.method, r.digest, r.first_stamp, r.owner, r.state, r.code, r.ambiguous, r.retry_after, r.body"
    };
}

/// Takes a record whose owner does not live for a recorded Unknown: `$1` to `$4`. The state is part of the condition: compare and swap.
macro_rules! give_up {
    () => {
        "UPDATE @.record r SET state = $1, code = $2, ambiguous = true, body = $3 WHERE r.state = 0"
    };
}

macro_rules! no_lease {
    () => {
        "NOT EXISTS (SELECT FROM @.owner o WHERE o.incarnation = r.owner AND o.expires > clock_timestamp())"
    };
}

statements! {
    /// Inserts running records. In the order of their keys, so that two batches cannot wait for one another.
    claim: "INSERT INTO @.record (key, interface, method, digest, first_stamp, expiry, owner)
        SELECT u.*, $7::bigint FROM unnest($1::bytea[], $2::bigint[], $3::integer[], $4::bytea[], $5::bigint[], $6::bigint[])
            AS u(key, interface, method, digest, first_stamp, expiry)
        ORDER BY u.key ON CONFLICT (key) DO NOTHING RETURNING key",
    /// Reads sessions, and keeps them from being evicted until the transaction ends; to raise a watermark goes on being possible.
    sessions: "SELECT registration, principal, below, closed FROM @.session WHERE registration = ANY ($1::bytea[])
        ORDER BY registration FOR KEY SHARE",
    floor: "SELECT floor FROM @.meta",
    records: concat!("SELECT ", record!(), " FROM @.record r WHERE r.key = ANY ($1::bytea[])"),
    /// Undoes inserts of the same transaction.
    unclaim: "DELETE FROM @.record WHERE key = ANY ($1::bytea[])",
    /// Keeps answers of running records of one owner: compare and swap.
    finish: "UPDATE @.record r SET state = u.state, code = u.code, ambiguous = u.ambiguous, retry_after = u.retry_after, body = u.body
        FROM unnest($1::bytea[], $2::smallint[], $3::bigint[], $4::boolean[], $5::bigint[], $6::bytea[])
            AS u(key, state, code, ambiguous, retry_after, body)
        WHERE r.key = u.key AND r.owner = $7 AND r.state = 0 RETURNING r.key",
    /// As `finish`, for whoever: a planted bug.
    finish_blindly: "UPDATE @.record r SET state = u.state, code = u.code, ambiguous = u.ambiguous, retry_after = u.retry_after, body = u.body
        FROM unnest($1::bytea[], $2::smallint[], $3::bigint[], $4::boolean[], $5::bigint[], $6::bytea[])
            AS u(key, state, code, ambiguous, retry_after, body)
        WHERE r.key = u.key AND $7::bigint IS NOT NULL RETURNING r.key",
    /// As `finish`, of one record, in the very transaction that inserted it (`$8`) and in no other.
    finish_within: "UPDATE @.record r SET state = $2, code = $3, ambiguous = $4, retry_after = $5, body = $6
        WHERE r.key = $1 AND r.owner = $7 AND r.state = 0 AND pg_current_xact_id_if_assigned()::text = $8",
    /// Removes running records of one owner.
    remove: "DELETE FROM @.record WHERE key = ANY ($1::bytea[]) AND owner = $2 AND state = 0 RETURNING key",
    /// Of the record `$4`: its owner's lease has expired, or it is `$5` and gives it up.
    give_up: concat!(give_up!(), " AND r.key = $4 AND (r.owner = $5 OR ", no_lease!(), ")"),
    /// As `give_up`, to be run again.
    let_go: concat!("DELETE FROM @.record r WHERE r.state = 0 AND r.key = $1 AND (r.owner = $2 OR ", no_lease!(), ")"),
    /// As `give_up`, of some records of owners that do not live.
    give_up_some: concat!(give_up!(), " AND r.key IN (SELECT r.key FROM @.record r WHERE r.state = 0 AND ", no_lease!(),
        " LIMIT $4 FOR UPDATE SKIP LOCKED)"),
    let_go_some: concat!("DELETE FROM @.record r WHERE r.state = 0 AND r.key IN (SELECT r.key FROM @.record r WHERE r.state = 0 AND ",
        no_lease!(), " LIMIT $1 FOR UPDATE SKIP LOCKED)"),
    register: "INSERT INTO @.session (registration, principal) VALUES ($1, $2) ON CONFLICT DO NOTHING",
    incarnations: "SELECT incarnations FROM @.meta",
    resume: "UPDATE @.session SET seen = clock_timestamp() WHERE registration = $1 AND principal = $2 RETURNING below, closed",
    /// Sessions whose watermarks are to be raised.
    closing: "SELECT registration, below, closed FROM @.session WHERE registration = ANY ($1::bytea[])
        ORDER BY registration FOR NO KEY UPDATE",
    /// `seen` has an index: it changes only if it is `$4` milliseconds old, so that most of these updates touch no index.
    close: "UPDATE @.session s SET below = u.below, closed = u.closed,
            seen = CASE WHEN s.seen < clock_timestamp() - $4::bigint * interval '1 millisecond' THEN clock_timestamp() ELSE s.seen END
        FROM unnest($1::bytea[], $2::bigint[], $3::bytea[]) AS u(registration, below, closed)
        WHERE s.registration = u.registration",
    /// Deletes ended records from key to key, inclusive.
    collect: "DELETE FROM @.record r USING unnest($1::bytea[], $2::bytea[]) AS u(first, last)
        WHERE r.key BETWEEN u.first AND u.last AND r.state <> 0",
    /// Idle sessions that nobody runs anything for. `$1` milliseconds of retention.
    idle: "SELECT registration FROM @.session WHERE seen < clock_timestamp() - $1::bigint * interval '1 millisecond'
        ORDER BY seen LIMIT $2 FOR UPDATE SKIP LOCKED",
    /// Which of these sessions have records that run.
    busy: "SELECT s.registration FROM unnest($1::bytea[], $2::bytea[], $3::bytea[]) AS s(registration, first, last)
        WHERE EXISTS (SELECT FROM @.record r WHERE r.key BETWEEN s.first AND s.last AND r.state = 0)",
    evict: "DELETE FROM @.session WHERE registration = ANY ($1::bytea[])",
    /// Sessions that are looked at again later.
    keep: "UPDATE @.session SET seen = clock_timestamp() WHERE registration = ANY ($1::bytea[])",
    /// Expired keyed records that do not run.
    expired: "SELECT key, expiry FROM @.record
        WHERE expiry IS NOT NULL AND expiry <= floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint - $1 AND state <> 0
        ORDER BY expiry LIMIT $2 FOR UPDATE SKIP LOCKED",
    raise_floor: "UPDATE @.meta SET floor = GREATEST(floor, $1)",
    forget_owners: "DELETE FROM @.owner o WHERE o.expires < clock_timestamp() - $1::bigint * interval '1 millisecond'
        AND NOT EXISTS (SELECT FROM @.record r WHERE r.owner = o.incarnation AND r.state = 0)",
    renew: "INSERT INTO @.owner (incarnation, expires) VALUES ($1, clock_timestamp() + $2::bigint * interval '1 millisecond')
        ON CONFLICT (incarnation) DO UPDATE SET expires = excluded.expires",
    transaction_id: "SELECT pg_current_xact_id_if_assigned()::text",
    one_at_a_time: "SELECT pg_try_advisory_xact_lock($1)",
}
