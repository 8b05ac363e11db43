//! The stores `shared` and `atomic`, asked directly, over a PostgreSQL of their own: what each operation answers, what the races come to that would
//! break the guarantee, and what is said when the database is not there.
//!
//! The machine that asks them, and servers above that, are tested elsewhere.
//!
//! One PostgreSQL for each test that disturbs it, one for all others, which keep apart by their schemas.

mod relay;
mod rig;

mod atomic;
mod opening;
mod operations;
mod outages;
mod races;
