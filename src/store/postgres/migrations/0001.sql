-- Version 1 of the tables of the stores `shared` and `atomic`. "@" stands for the schema.
-- Unsigned numbers of 64 bits are kept in bigint with their bits unchanged; times are milliseconds since the Unix epoch.

-- One row: what the store is.
CREATE TABLE @.meta (
    one          boolean PRIMARY KEY DEFAULT true CHECK (one),
    store        bytea NOT NULL CHECK (octet_length(store) = 16),
    born         bigint NOT NULL,
    -- The latest expiry of a keyed record that was deleted. It only rises.
    floor        bigint NOT NULL DEFAULT 0,
    -- How many server processes have opened the store.
    incarnations bigint NOT NULL DEFAULT 0
);

-- Server processes, and until when they are believed to live.
CREATE TABLE @.owner (
    incarnation bigint PRIMARY KEY,
    expires     timestamptz NOT NULL
);

CREATE TABLE @.session (
    registration bytea PRIMARY KEY CHECK (octet_length(registration) = 16),
    principal    bigint NOT NULL,
    -- The numbers that the client has closed: all below, and ranges of (first, last), 8 bytes each, big-endian.
    below        bigint NOT NULL DEFAULT 1,
    closed       bytea NOT NULL DEFAULT '',
    seen         timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX session_seen ON @.session (seen);

CREATE TABLE @.record (
    -- 1, registration, number; or 2, principal, key. Big-endian, so that a range of numbers is a range of keys.
    key          bytea PRIMARY KEY CHECK (octet_length(key) = 25),
    interface    bigint NOT NULL,
    method       integer NOT NULL,
    digest       bytea NOT NULL,
    first_stamp  bigint NOT NULL,
    -- Of a keyed record.
    expiry       bigint,
    owner        bigint NOT NULL,
    -- 0 running, 1 a reply, 2 declined, 3 failed, 4 an answer of the library.
    state        smallint NOT NULL DEFAULT 0,
    -- The type id of the fault, or the number of the refusal.
    code         bigint NOT NULL DEFAULT 0,
    ambiguous    boolean NOT NULL DEFAULT false,
    retry_after  bigint,
    -- The reply or fault, or the message in UTF-8.
    body         bytea
);
CREATE INDEX record_expiry ON @.record (expiry) WHERE expiry IS NOT NULL;
CREATE INDEX record_running ON @.record (owner) WHERE state = 0;
